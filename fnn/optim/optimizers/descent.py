"""Gradient descent, momentum, and optimizers that use the sign of the gradient."""

import jax.numpy as jnp

from fnn import checks
from fnn.optim.per_parameter import lift, zeros
from fnn.types import Number, Optimizer, Rate
from fnn.values import maker


@maker
def sgd(rate: Rate) -> Optimizer:
    """Stochastic gradient descent, θ <- θ - rate g [Robbins & Monro 1951]."""

    def rule(g, p, rate, t):
        return (-rate * g,)

    return lift("sgd", rule, rate)


@maker
def momentum(rate: Rate, *, momentum: Number = 0.9, nesterov: bool = False) -> Optimizer:
    """The heavy ball, v <- momentum v + g, θ <- θ - rate v; with nesterov θ <- θ - rate (g + momentum v).

    As in torch, the rate stands outside v, so that a schedule acts at once [Polyak 1964; Sutskever et al. 2013].
    """
    checks.number("momentum momentum", momentum, "[0, 1)")
    checks.flag("momentum nesterov", nesterov)

    def rule(g, p, v, rate, t, momentum):
        v = momentum * v + g
        return -rate * (g + momentum * v if nesterov else v), v

    return lift("momentum", rule, rate, slots=zeros("velocity"), momentum=momentum)


@maker
def rprop(
    rate: Rate,
    *,
    shrink: Number = 0.5,
    grow: Number = 1.2,
    smallest: Number = 1e-6,
    largest: Number = 50.0,
) -> Optimizer:
    """A step size for each number, that grows while its gradient keeps its sign: θ <- θ - size sign(g).

    size, the rate at first, is multiplied by grow, or by shrink where the sign has changed, and held within smallest
    and largest; after a change the number rests for a step. Later rates count only as on or 0. For whole batches, as
    noise changes signs. ConfigError unless 0 < shrink <= 1 <= grow [Riedmiller & Braun 1993].
    """
    checks.number("rprop shrink", shrink, "(0, 1]")
    checks.number("rprop grow", grow, "[1, inf)")
    checks.number("rprop smallest", smallest, "[0, inf)")
    checks.number("rprop largest", largest, "(0, inf)")

    def rule(g, p, before, size, rate, t, shrink, grow, smallest, largest):
        agreement = jnp.sign(g * before)
        factor = jnp.where(agreement > 0, grow, jnp.where(agreement < 0, shrink, 1))
        size = jnp.clip(jnp.where(t == 1, rate, size) * factor, smallest, largest)
        g = jnp.where(agreement < 0, 0, g)
        return -jnp.sign(rate) * size * jnp.sign(g), g, size

    slots = zeros("gradient", "size")
    return lift(
        "rprop",
        rule,
        rate,
        slots=slots,
        shrink=shrink,
        grow=grow,
        smallest=smallest,
        largest=largest,
    )


@maker
def lion(
    rate: Rate, *, b1: Number = 0.9, b2: Number = 0.99, weight_decay: Number = 0.0
) -> Optimizer:
    """The sign of a mean that leans to the new gradient: θ <- θ - rate (sign(b1 m + (1 - b1) g) + weight_decay θ).

    Then m <- b2 m + (1 - b2) g. Its rate is 3 to 10 times smaller than Adam's, its weight decay as much larger
    [Chen et al. 2023, arXiv:2302.06675].
    """
    checks.number("lion b1", b1, "[0, 1)")
    checks.number("lion b2", b2, "[0, 1)")
    checks.number("lion weight_decay", weight_decay, "[0, inf)")

    def rule(g, p, m, rate, t, b1, b2, weight_decay):
        direction = jnp.sign(b1 * m + (1 - b1) * g)
        return -rate * (direction + weight_decay * p), b2 * m + (1 - b2) * g

    return lift("lion", rule, rate, slots=zeros("mean"), b1=b1, b2=b2, weight_decay=weight_decay)
