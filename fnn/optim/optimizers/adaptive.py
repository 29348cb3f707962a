"""Optimizers that divide gradients by the size of past ones: Adagrad, Adadelta, RMSProp."""

import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.per_parameter import per_parameter, root, running_mean, zeros
from fnn.types import Number, Optimizer, Rate
from fnn.values import maker


@maker
def adagrad(
    rate: Rate, *, initial: Number = 0.0, eps: Number = 1e-10, eps_root: Number = 0.0
) -> Optimizer:
    """Adagrad: gradients over the root of the sum of their squares.

    s <- s + g², θ <- θ - rate g / (√(s + eps_root) + eps) [Duchi et al. 2011].

    Args:
        rate: A number >= 0, or a schedule.
        initial: The first value of s, >= 0; larger values make the first steps smaller.
        eps: Added outside of the root, > 0, as in torch.
        eps_root: Added inside of the root, >= 0, as in optax.
    """
    checks.number("adagrad initial", initial, "[0, inf)")
    _expect_eps("adagrad", eps, eps_root)

    def rule(g, p, s, h):
        # A sum and not a mean, so that steps fall as 1 / √t under a constant gradient.
        s = s + jnp.square(g)
        divisor = root(s + h.eps_root) + h.eps
        return -h.rate * g / divisor, s

    slots = {"sum": lambda p: jnp.full_like(p, trees.knob(initial, p))}
    return per_parameter("adagrad", rule, rate, slots=slots, eps=eps, eps_root=eps_root)


@maker
def adadelta(rate: Rate = 1.0, *, decay: Number = 0.9, eps: Number = 1e-6) -> Optimizer:
    """Adadelta: steps in proportion to the root mean square of past steps.

    u = √(d + eps) / √(s + eps) g, θ <- θ - rate u, with s <- decay s + (1 - decay) g² before the
    step and d <- decay d + (1 - decay) u² after it [Zeiler 2012, arXiv:1212.5701].

    Args:
        rate: A number >= 0, or a schedule. It has no unit; the paper does without it.
        decay: Decay of both means, in [0, 1).
        eps: Added inside of both roots, > 0. It sets the size of the first step.
    """
    checks.number("adadelta decay", decay, "[0, 1)")
    checks.number("adadelta eps", eps, "(0, inf)")

    def rule(g, p, s, d, h):
        s = running_mean(h.decay, s, jnp.square(g))
        # √d has the unit of θ, √s that of g. So u has the unit of θ, which other steps do not.
        step_rms = root(d + h.eps)
        g_rms = root(s + h.eps)
        u = step_rms / g_rms * g
        # Only after the step: d holds past steps, which give the next one its unit.
        d = running_mean(h.decay, d, jnp.square(u))
        return -h.rate * u, s, d

    slots = zeros("square", "square_step")
    return per_parameter("adadelta", rule, rate, slots=slots, decay=decay, eps=eps)


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
    """RMSProp: gradients over their running root mean square.

    s <- decay s + (1 - decay) g², θ <- θ - rate g / (√(s + eps_root) + eps)
    [Hinton 2012, Coursera lecture 6e; centered: Graves 2013, arXiv:1308.0850].

    Args:
        rate: A number >= 0, or a schedule.
        decay: Decay of the means, in [0, 1).
        eps: Added outside of the root, > 0, as in torch.
        eps_root: Added inside of the root, >= 0, as in optax.
        centered: Divide by the root of the variance s - a²
            instead, where a <- decay a + (1 - decay) g.
        momentum: In [0, 1), v <- momentum v + g / (...), θ <- θ - rate v; None does without v.
    """
    checks.number("rmsprop decay", decay, "[0, 1)")
    _expect_eps("rmsprop", eps, eps_root)
    checks.flag("rmsprop centered", centered)
    # It decides whether the state holds v. So it is static, and 0 is not the same as None.
    has_velocity = momentum is not None
    if has_velocity:
        checks.number("rmsprop momentum", momentum, "[0, 1)")

    def rule(g, p, s, *others, h):
        s = running_mean(h.decay, s, jnp.square(g))
        # Without `centered` the mean is taken as 0.
        variance = s
        slots = [s]
        if centered:
            a = running_mean(h.decay, others[0], g)
            variance = jnp.maximum(s - jnp.square(a), 0)  # below 0 only by rounding
            slots.append(a)
        u = g / (root(variance + h.eps_root) + h.eps)
        if has_velocity:
            # The velocity is the last slot, with or without the mean.
            u = h.momentum * others[-1] + u
            slots.append(u)
        return -h.rate * u, *slots

    names = ["square"]
    if centered:
        names.append("mean")
    if has_velocity:
        names.append("velocity")
    return per_parameter(
        "rmsprop",
        rule,
        rate,
        slots=zeros(*names),
        decay=decay,
        eps=eps,
        eps_root=eps_root,
        momentum=0.0 if momentum is None else momentum,
    )


def _expect_eps(where: str, eps: Number, eps_root: Number) -> None:
    checks.number(f"{where} eps", eps, "(0, inf)")
    checks.number(f"{where} eps_root", eps_root, "[0, inf)")
