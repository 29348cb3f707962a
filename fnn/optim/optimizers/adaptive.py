"""A step of its own for each parameter, by how large its gradients have been."""

from typing import Any

import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.per_parameter import lift, root, zeros
from fnn.types import Number, Optimizer, Rate
from fnn.values import maker


@maker
def adagrad(
    rate: Rate, *, initial: Number = 0.0, eps: Number = 1e-10, eps_root: Number = 0.0
) -> Optimizer:
    """Steps over the root of all squares so far, s <- s + g², θ <- θ - rate g / (√(s + eps_root) + eps).

    s begins at initial. eps stands outside the root, as in torch; eps_root within, as in optax [Duchi et al. 2011].
    """
    checks.number("adagrad initial", initial, "[0, inf)")
    _expect_eps("adagrad", eps, eps_root)

    def rule(g, p, s, rate, t, eps, eps_root):
        s = s + jnp.square(g)
        return -rate * g / (root(s + eps_root) + eps), s

    slots = {"sum": lambda p: jnp.full_like(p, trees.knob(initial, p))}
    return lift("adagrad", rule, rate, slots=slots, eps=eps, eps_root=eps_root)


@maker
def adadelta(rate: Rate = 1.0, *, decay: Number = 0.9, eps: Number = 1e-6) -> Optimizer:
    """Steps of the size of past steps, u = √(d + eps) / √(s + eps) g, θ <- θ - rate u.

    s <- decay s + (1 - decay) g² before the step, d <- decay d + (1 - decay) u² after it, so that rate has no unit
    [Zeiler 2012, arXiv:1212.5701].
    """
    checks.number("adadelta decay", decay, "[0, 1)")
    checks.number("adadelta eps", eps, "(0, inf)")

    def rule(g, p, s, d, rate, t, decay, eps):
        s = decay * s + (1 - decay) * jnp.square(g)
        u = root(d + eps) / root(s + eps) * g
        return -rate * u, s, decay * d + (1 - decay) * jnp.square(u)

    return lift("adadelta", rule, rate, slots=zeros("square", "square_step"), decay=decay, eps=eps)


@maker
def rmsprop(
    rate: Rate,
    *,
    decay: Number = 0.9,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    centered: bool = False,
    momentum: Number | None = None,
) -> Optimizer:
    """Steps over a running root mean square, s <- decay s + (1 - decay) g², θ <- θ - rate g / (√(s + eps_root) + eps).

    centered takes the variance s - a² in the place of s, where a <- decay a + (1 - decay) g; with momentum
    v <- momentum v + g / (...), θ <- θ - rate v. eps stands outside the root, as in torch; eps_root within, as in
    optax's default [Hinton 2012, Coursera lecture 6e; centered: Graves 2013, arXiv:1308.0850].
    """
    checks.number("rmsprop decay", decay, "[0, 1)")
    _expect_eps("rmsprop", eps, eps_root)
    checks.flag("rmsprop centered", centered)
    moving = momentum is not None  # decides whether there is a slot for v, so it is static
    if moving:
        checks.number("rmsprop momentum", momentum, "[0, 1)")

    def rule(g, p, s, *others, rate, t, decay, eps, eps_root, momentum=None):
        s = decay * s + (1 - decay) * jnp.square(g)
        variance, slots = s, [s]
        if centered:
            a = decay * others[0] + (1 - decay) * g
            variance = jnp.maximum(s - jnp.square(a), 0)  # below 0 by rounding alone
            slots.append(a)
        step = g / (root(variance + eps_root) + eps)
        if moving:
            step = momentum * others[-1] + step
            slots.append(step)
        return -rate * step, *slots

    slots = zeros("square", *["mean"] * centered, *["velocity"] * moving)
    knobs: dict[str, Any] = {"decay": decay, "eps": eps, "eps_root": eps_root}
    if momentum is not None:
        knobs["momentum"] = momentum
    return lift("rmsprop", rule, rate, slots=slots, **knobs)


def _expect_eps(where: str, eps: Number, eps_root: Number) -> None:
    checks.number(f"{where} eps", eps, "(0, inf)")
    checks.number(f"{where} eps_root", eps_root, "[0, inf)")
