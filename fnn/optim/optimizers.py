"""Optimizers, each as its paper writes it: θ the params, g their gradient, t = 1, 2, ... the step; slots begin at 0.

Every one takes a rate that is a number or a schedule, and every number may be traced. ConfigError for a number out of
range, DTypeError for params that are no floats, TreeMismatchError for gradients unlike the params.
"""

import jax.numpy as jnp

from fnn import checks
from fnn.optim.lifting import lift, root
from fnn.types import Number, Optimizer, Rate


def sgd(rate: Rate) -> Optimizer:
    """Stochastic gradient descent, θ <- θ - rate g [Robbins & Monro 1951]."""

    def rule(g, p, rate, t):
        return (-rate * g,)

    return lift("sgd", rule, rate)


def momentum(rate: Rate, *, decay: Number = 0.9, nesterov: bool = False) -> Optimizer:
    """The heavy ball, v <- decay v + g, θ <- θ - rate v; with nesterov θ <- θ - rate (g + decay v).

    As in torch, the rate stands outside v, so that a schedule acts at once [Polyak 1964; Sutskever et al. 2013].
    """
    checks.number("momentum decay", decay, "[0, 1)")
    checks.flag("momentum nesterov", nesterov)

    def rule(g, p, v, rate, t, decay):
        v = decay * v + g
        return -rate * (g + decay * v if nesterov else v), v

    return lift("momentum", rule, rate, slots=("velocity",), decay=decay)


def rmsprop(rate: Rate, *, decay: Number = 0.9, eps: Number = 1e-8) -> Optimizer:
    """Steps over a running root mean square, s <- decay s + (1 - decay) g², θ <- θ - rate g / (√s + eps).

    eps stands outside the root, as in torch [Hinton 2012, Coursera lecture 6e].
    """
    checks.number("rmsprop decay", decay, "[0, 1)")
    checks.number("rmsprop eps", eps, "(0, inf)")

    def rule(g, p, s, rate, t, decay, eps):
        s = decay * s + (1 - decay) * jnp.square(g)
        return -rate * g / (root(s) + eps), s

    return lift("rmsprop", rule, rate, slots=("square",), decay=decay, eps=eps)


def adam(rate: Rate, *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> Optimizer:
    """Momentum over root mean square, both freed of their start at 0.

    m <- b1 m + (1 - b1) g, s <- b2 s + (1 - b2) g²; θ <- θ - rate m̂ / (√ŝ + eps), where m̂ = m / (1 - b1ᵗ) and
    ŝ = s / (1 - b2ᵗ) [Kingma & Ba 2015, arXiv:1412.6980].
    """
    _expect_adam("adam", b1, b2, eps)

    def rule(g, p, m, s, rate, t, b1, b2, eps):
        direction, m, s = _adam(g, m, s, t, b1, b2, eps)
        return -rate * direction, m, s

    return lift("adam", rule, rate, slots=("mean", "square"), b1=b1, b2=b2, eps=eps)


def adamw(
    rate: Rate, *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8, weight_decay: Number = 0.01
) -> Optimizer:
    """Adam with weight decay beside the gradient instead of in it, θ <- θ - rate (m̂ / (√ŝ + eps) + weight_decay θ).

    [Loshchilov & Hutter 2019, arXiv:1711.05101]
    """
    _expect_adam("adamw", b1, b2, eps)
    checks.number("adamw weight_decay", weight_decay, "[0, inf)")

    def rule(g, p, m, s, rate, t, b1, b2, eps, weight_decay):
        direction, m, s = _adam(g, m, s, t, b1, b2, eps)
        return -rate * (direction + weight_decay * p), m, s

    return lift("adamw", rule, rate, slots=("mean", "square"), b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)


def _adam(g, m, s, t, b1, b2, eps):
    m = b1 * m + (1 - b1) * g
    s = b2 * s + (1 - b2) * jnp.square(g)
    return m / (1 - b1**t) / (root(s / (1 - b2**t)) + eps), m, s


def _expect_adam(name: str, b1: Number, b2: Number, eps: Number) -> None:
    checks.number(f"{name} b1", b1, "[0, 1)")
    checks.number(f"{name} b2", b2, "[0, 1)")
    checks.number(f"{name} eps", eps, "(0, inf)")
