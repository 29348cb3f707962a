"""Optimizers that normalize over a whole parameter array: LARS, LAMB, NovoGrad."""

import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.optim.optimizers.adam import bias_corrections, direction, expect_adam, moments
from fnn.optim.per_parameter import divide_where, norm, per_parameter, root, running_mean, zeros
from fnn.types import Number, Optimizer, Rate, Scalar
from fnn.values import maker


@maker
def lars(
    rate: Rate, *, momentum: Number = 0.9, weight_decay: Number = 0.0, coefficient: Number = 1e-3
) -> Optimizer:
    """LARS: momentum on gradients that are rescaled to a share of the norm of their array.

    u = g + weight_decay θ, v <- momentum v + rate coefficient |θ| / |u| u, θ <- θ - v. Where |θ| or
    |u| is 0, u is not rescaled. |u| is as in optax; the paper has |g| + weight_decay |θ| [You et
    al. 2017, arXiv:1708.03888].

    Args:
        rate: A number >= 0, or a schedule.
        momentum: Decay of the velocity v, in [0, 1).
        weight_decay: Weight of θ in u, >= 0.
        coefficient: Norm of a step of rate 1 relative to |θ|, > 0; the paper's value.
    """
    checks.number("lars momentum", momentum, "[0, 1)")
    checks.number("lars weight_decay", weight_decay, "[0, inf)")
    checks.number("lars coefficient", coefficient, "(0, inf)")

    def rule(g, p, v, h):
        # The decay is part of u, so that it is rescaled with it.
        u = g + h.weight_decay * p
        ratio = _trust_ratio(p, u, h.coefficient)
        # The rate is inside of v, as in the paper, so that v keeps the rates of its past.
        v = h.momentum * v + h.rate * ratio * u
        return -v, v

    return per_parameter(
        "lars",
        rule,
        rate,
        slots=zeros("velocity"),
        momentum=momentum,
        weight_decay=weight_decay,
        coefficient=coefficient,
    )


@maker
def lamb(
    rate: Rate,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-6,
    weight_decay: Number = 0.0,
) -> Optimizer:
    """LAMB: Adam's step rescaled to the norm of its parameter array.

    u = m̂ / (√ŝ + eps) + weight_decay θ, θ <- θ - rate |θ| / |u| u. Where |θ| or |u| is 0, u is not
    rescaled [You et al. 2020, arXiv:1904.00962].

    Args:
        rate: A number >= 0, or a schedule.
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added outside of the root, > 0; the paper's value.
        weight_decay: Weight of θ in u, >= 0.
    """
    expect_adam("lamb", b1, b2, eps)
    checks.number("lamb weight_decay", weight_decay, "[0, inf)")

    def rule(g, p, m, s, h):
        m, s = moments(g, m, s, h)
        u = direction(m, s, h) + h.weight_decay * p
        # |θ| / |u|, so that the step has the norm of θ times the rate.
        ratio = _trust_ratio(p, u)
        return -h.rate * ratio * u, m, s

    return per_parameter(
        "lamb",
        rule,
        rate,
        slots=zeros("mean", "square"),
        per_step=bias_corrections(b1, b2),
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
    )


@maker
def novograd(
    rate: Rate,
    *,
    b1: Number = 0.9,
    b2: Number = 0.25,
    eps: Number = 1e-6,
    weight_decay: Number = 0.0,
) -> Optimizer:
    """NovoGrad: momentum on gradients that are normalized by one second moment per parameter array.

    s <- b2 s + (1 - b2) |g|², which begins as |g|²;
    m <- b1 m + g / (√s + eps) + weight_decay θ, θ <- θ - rate m
    [Ginsburg et al. 2019, arXiv:1905.11286].

    Args:
        rate: A number >= 0, or a schedule.
        b1: Decay of the momentum m, in [0, 1).
        b2: Decay of the second moment s, in [0, 1); the paper's value.
        eps: Added outside of the root, > 0.
        weight_decay: Weight of θ in the momentum, >= 0.
    """
    expect_adam("novograd", b1, b2, eps)
    checks.number("novograd weight_decay", weight_decay, "[0, inf)")

    def rule(g, p, m, s, h):
        square = jnp.square(g).sum()
        # It begins as |g|², not as 0, so that no bias has to be corrected.
        s = running_mean(h.b2, s, square)
        s = jnp.where(h.t == 1, square, s)
        u = g / (root(s) + h.eps)
        m = h.b1 * m + u + h.weight_decay * p
        return -h.rate * m, m, s

    # The second moment is one number per array.
    slots = {**zeros("mean"), "square": lambda p: jnp.zeros((), p.dtype)}
    return per_parameter(
        "novograd", rule, rate, slots=slots, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay
    )


def _trust_ratio(p: Array, u: Array, coefficient: Number = 1.0) -> Scalar:
    """coefficient |p| / |u|, or 1 where one of the norms is 0."""
    p_norm = norm(p)
    u_norm = norm(u)
    # Biases are often 0 at first, and a ratio of 0 would keep them there.
    positive = (p_norm > 0) & (u_norm > 0)
    return divide_where(positive, coefficient * p_norm, u_norm, 1)
