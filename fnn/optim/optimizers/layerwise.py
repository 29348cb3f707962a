"""Steps in proportion to the size of the parameter array that they are for."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.optim.optimizers.adam import direction, expect_adam, moments, weights
from fnn.optim.per_parameter import lift, norm, root, zeros
from fnn.types import Number, Optimizer, Rate, Scalar
from fnn.values import maker


@maker
def lars(
    rate: Rate, *, momentum: Number = 0.9, weight_decay: Number = 0.0, coefficient: Number = 1e-3
) -> Optimizer:
    """Momentum on gradients as long as a share of their array, v <- μ v + rate coefficient |θ| / |u| u, θ <- θ - v.

    μ is the momentum, u = g + weight_decay θ; where |θ| or |u| is 0 it is taken as it is. As in optax, |u| stands
    for the paper's
    |g| + weight_decay |θ| [You et al. 2017, arXiv:1708.03888].
    """
    checks.number("lars momentum", momentum, "[0, 1)")
    checks.number("lars weight_decay", weight_decay, "[0, inf)")
    checks.number("lars coefficient", coefficient, "(0, inf)")

    def rule(g, p, v, rate, t, momentum, weight_decay, coefficient):
        u = g + weight_decay * p
        v = momentum * v + rate * _trust(p, u, coefficient) * u
        return -v, v

    knobs: dict[str, Any] = {
        "momentum": momentum,
        "weight_decay": weight_decay,
        "coefficient": coefficient,
    }
    return lift("lars", rule, rate, slots=zeros("velocity"), **knobs)


@maker
def lamb(
    rate: Rate,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-6,
    weight_decay: Number = 0.0,
) -> Optimizer:
    """Adam's step made as long as its array, u = m̂ / (√ŝ + eps) + weight_decay θ, θ <- θ - rate |θ| / |u| u.

    Where |θ| or |u| is 0, u is taken as it is [You et al. 2020, arXiv:1904.00962].
    """
    expect_adam("lamb", b1, b2, eps)
    checks.number("lamb weight_decay", weight_decay, "[0, inf)")

    def rule(g, p, m, s, rate, t, b1, b2, eps, weight_decay, w1, w2):
        m, s = moments(g, m, s, b1, b2)
        u = direction(m, s, w1, w2, eps) + weight_decay * p
        return -rate * _trust(p, u) * u, m, s

    knobs = {"b1": b1, "b2": b2, "eps": eps, "weight_decay": weight_decay}
    return lift("lamb", rule, rate, slots=zeros("mean", "square"), timed=weights(b1, b2), **knobs)


@maker
def novograd(
    rate: Rate,
    *,
    b1: Number = 0.9,
    b2: Number = 0.25,
    eps: Number = 1e-6,
    weight_decay: Number = 0.0,
) -> Optimizer:
    """One mean square for a whole array, s <- b2 s + (1 - b2) |g|², which begins as |g|².

    m <- b1 m + g / (√s + eps) + weight_decay θ, θ <- θ - rate m [Ginsburg et al. 2019, arXiv:1905.11286].
    """
    expect_adam("novograd", b1, b2, eps)
    checks.number("novograd weight_decay", weight_decay, "[0, inf)")

    def rule(g, p, m, s, rate, t, b1, b2, eps, weight_decay):
        square = jnp.square(g).sum()
        s = jnp.where(t == 1, square, b2 * s + (1 - b2) * square)
        m = b1 * m + g / (root(s) + eps) + weight_decay * p
        return -rate * m, m, s

    slots = {**zeros("mean"), "square": lambda p: jnp.zeros((), p.dtype)}
    return lift(
        "novograd", rule, rate, slots=slots, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay
    )


def _trust(p: jax.Array, u: jax.Array, coefficient: Number = 1.0) -> Scalar:
    """coefficient |p| / |u|, or 1 where one of them is 0."""
    length, step = norm(p), norm(u)
    usable = (length > 0) & (step > 0)
    return jnp.where(usable, coefficient * length / jnp.where(usable, step, 1), 1)
