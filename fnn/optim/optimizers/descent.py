"""Gradient descent, momentum, and optimizers that use the sign of the gradient."""

import jax.numpy as jnp

from fnn import checks
from fnn.optim.per_parameter import per_parameter, running_mean, zeros
from fnn.types import Number, Optimizer, Rate
from fnn.values import maker


@maker
def sgd(rate: Rate) -> Optimizer:
    """Stochastic gradient descent, θ <- θ - rate g [Robbins & Monro 1951].

    Args:
        rate: A number >= 0, or a schedule.
    """

    # A rule returns a tuple: the update and, here, no slots.
    def rule(g, p, h):
        return (-h.rate * g,)

    return per_parameter("sgd", rule, rate)


@maker
def momentum(rate: Rate, *, momentum: Number = 0.9, nesterov: bool = False) -> Optimizer:
    """Gradient descent with heavy-ball or Nesterov momentum.

    v <- momentum v + g, θ <- θ - rate v; with nesterov θ <- θ - rate (g + momentum v). As in torch,
    v is without the rate, so that a change of the rate acts at once
    [Polyak 1964; Sutskever et al. 2013].

    Args:
        rate: A number >= 0, or a schedule.
        momentum: Decay of the velocity v, in [0, 1). v
            grows to g / (1 - momentum) under a constant g.
        nesterov: Whether the step adds the new gradient to the decayed velocity.
    """
    checks.number("momentum momentum", momentum, "[0, 1)")
    checks.flag("momentum nesterov", nesterov)

    def rule(g, p, v, h):
        v = h.momentum * v + g
        if nesterov:
            return -h.rate * (g + h.momentum * v), v
        return -h.rate * v, v

    return per_parameter("momentum", rule, rate, slots=zeros("velocity"), momentum=momentum)


@maker
def rprop(
    rate: Rate,
    *,
    shrink: Number = 0.5,
    grow: Number = 1.2,
    smallest: Number = 1e-6,
    largest: Number = 50.0,
) -> Optimizer:
    """Rprop: one step size per number, which grows while the gradient keeps its sign.

    θ <- θ - size sign(g). `size` is multiplied by grow if the sign of g is that of the step before,
    and by shrink if it has changed; then the number is not moved in this step. For full batches:
    the noise of small ones changes signs [Riedmiller & Braun 1993].

    Args:
        rate: The first size, a number >= 0, or a schedule.
            Later only its sign is used, so 0 stops training.
        shrink: Factor after a change of sign, in (0, 1].
        grow: Factor after the same sign, >= 1.
        smallest: Lower bound of the size, >= 0.
        largest: Upper bound of the size, > 0.
    """
    checks.number("rprop shrink", shrink, "(0, 1]")
    checks.number("rprop grow", grow, "[1, inf)")
    checks.number("rprop smallest", smallest, "[0, inf)")
    checks.number("rprop largest", largest, "(0, inf)")

    def rule(g, p, last_g, size, h):
        agreement = jnp.sign(g * last_g)  # 1 for the same sign, -1 for a change, 0 if one is 0
        changed = agreement < 0
        factor = jnp.where(changed, h.shrink, 1)
        factor = jnp.where(agreement > 0, h.grow, factor)
        # The slot is 0 in the state of init.
        size = jnp.where(h.t == 1, h.rate, size)
        size = jnp.clip(size * factor, h.smallest, h.largest)
        # The 0 is stored too: it makes the agreement of the next step 0, so that the size is kept.
        g = jnp.where(changed, 0, g)
        update = -jnp.sign(h.rate) * size * jnp.sign(g)
        return update, g, size

    return per_parameter(
        "rprop",
        rule,
        rate,
        slots=zeros("gradient", "size"),
        shrink=shrink,
        grow=grow,
        smallest=smallest,
        largest=largest,
    )


@maker
def lion(
    rate: Rate, *, b1: Number = 0.9, b2: Number = 0.99, weight_decay: Number = 0.0
) -> Optimizer:
    """Lion: the sign of an interpolation between momentum and gradient.

    θ <- θ - rate (sign(b1 m + (1 - b1) g) + weight_decay θ), then m <- b2 m + (1 - b2) g
    [Chen et al. 2023, arXiv:2302.06675].

    Args:
        rate: A number >= 0, or a schedule; 3 to 10 times smaller than for Adam.
        b1: Weight of m in the step, in [0, 1).
        b2: Decay of m, in [0, 1).
        weight_decay: Share of θ that a rate of 1 subtracts,
            >= 0; 3 to 10 times larger than for AdamW.
    """
    checks.number("lion b1", b1, "[0, 1)")
    checks.number("lion b2", b2, "[0, 1)")
    checks.number("lion weight_decay", weight_decay, "[0, inf)")

    def rule(g, p, m, h):
        sign = jnp.sign(running_mean(h.b1, m, g))
        u = sign + h.weight_decay * p
        # Another decay than in the step, so that the step weighs the new gradient more.
        m = running_mean(h.b2, m, g)
        return -h.rate * u, m

    return per_parameter(
        "lion", rule, rate, slots=zeros("mean"), b1=b1, b2=b2, weight_decay=weight_decay
    )
