"""Gradients that are kept from being too large."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.lifting import global_norm, root, widened
from fnn.optim.wrapping import before, times
from fnn.types import Number, Optimizer, Params
from fnn.values import maker


@maker
def clip_by_value(optimizer: Optimizer, limit: Number) -> Optimizer:
    """The optimizer, given each number of the gradient kept within [-limit, limit].

    ConfigError unless limit > 0; inf is off.
    """
    checks.number("clip_by_value limit", limit, "(0, inf]")

    def clipped(grads: Params, params: Params) -> Params:
        return jax.tree.map(lambda g: jnp.clip(g, -trees.knob(limit, g), trees.knob(limit, g)), grads)

    return before("clip_by_value", optimizer, clipped)


@maker
def clip_by_global_norm(optimizer: Optimizer, limit: Number, *, eps: Number = 0.0) -> Optimizer:
    """The optimizer, given the gradient shortened to the limit where it is longer, g <- g min(1, limit / (‖g‖ + eps)).

    ‖g‖ is over all parameters together. eps=1e-6 is torch's. ConfigError unless limit > 0 and eps >= 0; a limit of inf
    is off [Pascanu et al. 2013, arXiv:1211.5063].
    """
    checks.number("clip_by_global_norm limit", limit, "(0, inf]")
    checks.number("clip_by_global_norm eps", eps, "[0, inf)")

    def clipped(grads: Params, params: Params) -> Params:
        norm = global_norm(grads)
        share = _left(norm + trees.knob(eps, norm), trees.knob(limit, norm))
        return jax.tree.map(lambda g: times(share, g), grads)

    return before("clip_by_global_norm", optimizer, clipped)


@maker
def adaptive_clip(optimizer: Optimizer, limit: Number = 0.01, *, floor: Number = 1e-3) -> Optimizer:
    """The optimizer, given each unit's gradient shortened to a share of the unit's own length.

    g <- g min(1, limit max(‖θ‖, floor) / ‖g‖), the norms over all axes but the last, the units', and over the whole of
    a vector. The paper leaves the last layer out: that is `partition`. ConfigError unless limit and floor > 0
    [Brock et al. 2021, arXiv:2102.06171].
    """
    checks.number("adaptive_clip limit", limit, "(0, inf]")
    checks.number("adaptive_clip floor", floor, "(0, inf)")

    def one(g: jax.Array, p: jax.Array) -> jax.Array:
        length = _unit_norms(p)
        most = trees.knob(limit, length) * jnp.maximum(length, trees.knob(floor, length))
        return times(_left(_unit_norms(g), most), g)

    return before("adaptive_clip", optimizer, lambda grads, params: jax.tree.map(one, grads, params))


def _left(norm: jax.Array, limit: Number) -> jax.Array:
    """min(1, limit / norm), the share that is left of a vector of this length; safe at 0."""
    over = norm > limit
    return jnp.where(over, limit / jnp.where(over, norm, 1), 1)


def _unit_norms(x: jax.Array) -> jax.Array:
    """(..., units) -> (1, ..., units)"""
    axes = tuple(range(x.ndim - 1)) if x.ndim > 1 else None
    return root(jnp.square(widened(x)).sum(axes, keepdims=True))
