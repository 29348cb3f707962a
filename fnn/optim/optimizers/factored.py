"""Means of squares kept for the axes of an array instead of for its numbers: almost no memory."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.optim.per_parameter import lift, root, zeros
from fnn.types import Number, Optimizer, Rate, Scalar
from fnn.values import maker


@maker
def adafactor(
    rate: Rate,
    *,
    exponent: Number = 0.8,
    clip: Number = 1.0,
    eps: Number = 1e-30,
    eps_scale: Number = 1e-3,
    weight_decay: Number = 0.0,
    relative_step: bool = False,
    min_size: int = 1,
) -> Optimizer:
    """Steps over a root mean square that is the product of those of rows and columns, s = r c / mean(r).

    r and c are means over the last and the next to last axis of β s + (1 - β) (g² + eps), β = 1 - t^-exponent; an array
    of fewer axes, or one of these shorter than min_size, keeps s whole. With u = g / √s,
    θ <- θ - max(eps_scale, rms(θ)) rate u / max(1, rms(u) / clip) - rate weight_decay θ. relative_step takes
    min(rate, 1 / √t) in the place of the first rate, as the paper and torch have it [Shazeer & Stern 2018,
    arXiv:1804.04235].
    """
    checks.number("adafactor exponent", exponent, "(0, inf)")
    checks.number("adafactor clip", clip, "(0, inf)")
    checks.number("adafactor eps", eps, "(0, inf)")
    checks.number("adafactor eps_scale", eps_scale, "[0, inf)")
    checks.number("adafactor weight_decay", weight_decay, "[0, inf)")
    checks.flag("adafactor relative_step", relative_step)
    checks.whole("adafactor min_size", min_size)

    def axes(p: jax.Array) -> tuple[int, ...]:
        """The axes whose means are kept apart; none where s is whole."""
        return (-1, -2) if p.ndim >= 2 and min(p.shape[-2:]) >= min_size else ()

    def begin(p):
        return tuple(
            jnp.zeros_like(p.mean(axis, keepdims=True)) for axis in axes(p)
        ) or jnp.zeros_like(p)

    def rule(g, p, s, rate, t, exponent, clip, eps, eps_scale, weight_decay):
        decay, square = 1 - t**-exponent, jnp.square(g) + eps
        if axes(p):
            rows, columns = s = tuple(
                decay * mean + (1 - decay) * square.mean(axis, keepdims=True)
                for mean, axis in zip(s, axes(p), strict=True)
            )
            u = g / root(rows / rows.mean(-2, keepdims=True)) / root(columns)
        else:
            s = decay * s + (1 - decay) * square
            u = g / root(s)
        u = u / jnp.maximum(1, _rms(u) / clip)
        size = jnp.maximum(eps_scale, _rms(p)) * (
            jnp.minimum(rate, 1 / root(t)) if relative_step else rate
        )
        return -size * u - rate * weight_decay * p, s

    knobs: dict[str, Any] = {
        "exponent": exponent,
        "clip": clip,
        "eps": eps,
        "eps_scale": eps_scale,
        "weight_decay": weight_decay,
    }
    return lift("adafactor", rule, rate, slots={"square": begin}, **knobs)


@maker
def sm3(rate: Rate, *, decay: Number = 0.9, eps_root: Number = 1e-8) -> Optimizer:
    """AdaGrad whose sums are kept by slices, s = minᵢ maxᵢ + g²: of the slices a number is in, the least maximum.

    m <- decay m + (1 - decay) g / √(s + eps_root), where g is not 0, and θ <- θ - rate m; then each slice, one for each
    place on each axis, keeps the maximum of its s [Anil et al. 2019, arXiv:1901.11150].
    """
    checks.number("sm3 decay", decay, "[0, 1)")
    checks.number("sm3 eps_root", eps_root, "[0, inf)")

    def begin(p):
        return tuple(jnp.zeros_like(p.max(others, keepdims=True)) for others in _other_axes(p))

    def rule(g, p, m, maxima, rate, t, decay, eps_root):
        s = reduce(
            jnp.minimum, [jnp.broadcast_to(maximum, g.shape) for maximum in maxima]
        ) + jnp.square(g)
        seen = s > 0
        u = jnp.where(seen, g / root(jnp.where(seen, s + eps_root, 1)), 0)
        m = decay * m + (1 - decay) * u
        return -rate * m, m, tuple(s.max(others, keepdims=True) for others in _other_axes(s))

    slots = {**zeros("mean"), "maxima": begin}
    return lift("sm3", rule, rate, slots=slots, decay=decay, eps_root=eps_root)


def _rms(x: jax.Array) -> Scalar:
    return root(jnp.square(x).mean())


def _other_axes(p: jax.Array) -> list[tuple[int, ...]]:
    """For each axis all the others; of an array without axes, nothing is left out."""
    axes = range(p.ndim)
    return [tuple(other for other in axes if other != axis) for axis in axes] or [()]
