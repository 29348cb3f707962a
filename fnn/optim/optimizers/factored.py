"""Optimizers that save memory: second moments per row, column or slice of an array."""

from functools import reduce

import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.optim.per_parameter import per_parameter, root, running_mean, zeros
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
    """Adafactor: the second moment as the product of its row and column means, s = r c / mean(r).

    r and c are means over the last and the next to last axis of β s + (1 - β) (g² + eps), with
    β = 1 - t^-exponent. With u = g / √s,
    θ <- θ - max(eps_scale, rms(θ)) rate u / max(1, rms(u) / clip) - rate weight_decay θ
    [Shazeer & Stern 2018, arXiv:1804.04235].

    Args:
        rate: A number >= 0, or a schedule; relative to the size of the parameters.
        exponent: How fast β approaches 1, > 0.
        clip: Largest root mean square of u, > 0.
        eps: Added to g², > 0.
        eps_scale: Least root mean square of θ, >= 0, so that parameters of 0 are moved.
        weight_decay: Share of θ that a rate of 1 subtracts, >= 0.
        relative_step: Take min(rate, 1 / √t) in place of the first rate, as the paper and torch do.
        min_size: An array with one of the two axes shorter than
            this keeps s whole, as do arrays of fewer axes.
    """
    checks.number("adafactor exponent", exponent, "(0, inf)")
    checks.number("adafactor clip", clip, "(0, inf)")
    checks.number("adafactor eps", eps, "(0, inf)")
    checks.number("adafactor eps_scale", eps_scale, "[0, inf)")
    checks.number("adafactor weight_decay", weight_decay, "[0, inf)")
    checks.flag("adafactor relative_step", relative_step)
    checks.whole("adafactor min_size", min_size)

    def is_factored(p: Array) -> bool:
        return p.ndim >= 2 and p.size > 0 and min(p.shape[-2:]) >= min_size

    def start(p):
        if not is_factored(p):
            return jnp.zeros_like(p)
        # (..., rows, 1) and (..., 1, columns)
        rows = jnp.zeros_like(p.mean(-1, keepdims=True))
        columns = jnp.zeros_like(p.mean(-2, keepdims=True))
        return rows, columns

    def rule(g, p, s, h):
        # It is 0 at t = 1: the first step takes its own squares, and no bias has to be corrected.
        decay = 1 - h.t**-h.exponent
        square = jnp.square(g) + h.eps
        if is_factored(p):
            rows, columns = s
            rows = running_mean(decay, rows, square.mean(-1, keepdims=True))
            columns = running_mean(decay, columns, square.mean(-2, keepdims=True))
            # √s is never formed as a whole array: g is divided by one factor after the other.
            # Roots before quotients: for a gradient of 0 the means are eps,
            # whose square, in the slope of a quotient, is 0 in float32.
            normalized = root(rows) / root(rows.mean(-2, keepdims=True))
            u = g / normalized / root(columns)
            s = rows, columns
        else:
            s = running_mean(decay, s, square)
            u = g / root(s)
        # As √s lags behind g, some steps would be far too long.
        u = u / jnp.maximum(1, _rms(u) / h.clip)
        relative_rate = h.rate
        if relative_step:
            relative_rate = jnp.minimum(h.rate, 1 / root(h.t))
        size = jnp.maximum(h.eps_scale, _rms(p)) * relative_rate
        # The decay is relative to the given rate, not to the size of the parameters.
        update = -size * u - h.rate * h.weight_decay * p
        return update, s

    return per_parameter(
        "adafactor",
        rule,
        rate,
        slots={"square": start},
        exponent=exponent,
        clip=clip,
        eps=eps,
        eps_scale=eps_scale,
        weight_decay=weight_decay,
    )


@maker
def sm3(rate: Rate, *, decay: Number = 0.9, eps_root: Number = 1e-8) -> Optimizer:
    """SM3: Adagrad with one sum per slice of an array instead of one per number.

    s = minᵢ μᵢ + g², where μᵢ is the sum of the slice on axis i that holds the number;
    m <- decay m + (1 - decay) g / √(s + eps_root) where s > 0, θ <- θ - rate m. Then each slice,
    one for each index on each axis, keeps μᵢ = max(s) [Anil et al. 2019, arXiv:1901.11150].

    Args:
        rate: A number >= 0, or a schedule.
        decay: Decay of the momentum m, in [0, 1).
        eps_root: Added inside of the root, >= 0.
    """
    checks.number("sm3 decay", decay, "[0, 1)")
    checks.number("sm3 eps_root", eps_root, "[0, inf)")

    def slice_maxima(x):
        # For axis i: (1, ..., size of axis i, ..., 1)
        # All numbers are >= 0, so that the maximum of an empty slice is 0.
        return tuple(_max(x, others) for others in _other_axes(x))

    def start(p):
        return tuple(jnp.zeros_like(maxima) for maxima in slice_maxima(p))

    def rule(g, p, m, maxima, h):
        # Each sum of a slice bounds the sums of its numbers from above; the least bound is taken.
        bounds = [jnp.broadcast_to(maximum, g.shape) for maximum in maxima]
        s = reduce(jnp.minimum, bounds) + jnp.square(g)
        # s is 0 where no gradient has been yet. The inner `where` keeps 0 / 0 out of derivatives.
        positive = s > 0
        divisor = root(jnp.where(positive, s + h.eps_root, 1))
        u = jnp.where(positive, g / divisor, 0)
        m = running_mean(h.decay, m, u)
        return -h.rate * m, m, slice_maxima(s)

    slots = {**zeros("mean"), "maxima": start}
    return per_parameter("sm3", rule, rate, slots=slots, decay=decay, eps_root=eps_root)


def _rms(x: Array) -> Scalar:
    # The mean of no numbers would be NaN.
    return root(jnp.square(x).sum() / max(x.size, 1))


def _max(x: Array, axes: tuple[int, ...]) -> Array:
    """The maximum along axes, which stay; 0 for no numbers."""
    if x.size == 0:
        return x.sum(axes, keepdims=True)
    return x.max(axes, keepdims=True)


def _other_axes(p: Array) -> list[tuple[int, ...]]:
    """List, for each axis, all other axes. A scalar has one slice, which is the whole."""
    if p.ndim == 0:
        return [()]
    axes = range(p.ndim)
    return [tuple(other for other in axes if other != axis) for axis in axes]
