"""Transforms of gradients before the optimizer: clipping, centralization and noise."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.per_parameter import global_norm, root, widened
from fnn.optim.transform import Advance, around, before, extended, times, unscaled
from fnn.types import Number, Optimizer, OptState, Params, RandomKey, Step
from fnn.values import maker


@maker
def clip_by_value(optimizer: Optimizer, limit: Number) -> Optimizer:
    """The optimizer, given each number of the gradient kept within [-limit, limit].

    ConfigError unless limit > 0; inf is off.
    """
    checks.number("clip_by_value limit", limit, "(0, inf]")

    def clipped(grads: Params, params: Params) -> Params:
        return jax.tree.map(
            lambda g: jnp.clip(g, -trees.knob(limit, g), trees.knob(limit, g)), grads
        )

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

    return before(
        "adaptive_clip", optimizer, lambda grads, params: jax.tree.map(one, grads, params)
    )


def _left(norm: jax.Array, limit: Number) -> jax.Array:
    """min(1, limit / norm), the share that is left of a vector of this length; safe at 0."""
    over = norm > limit
    return jnp.where(over, limit / jnp.where(over, norm, 1), 1)


def _unit_norms(x: jax.Array) -> jax.Array:
    """(..., units) -> (1, ..., units)"""
    axes = tuple(range(x.ndim - 1)) if x.ndim > 1 else None
    return root(jnp.square(widened(x)).sum(axes, keepdims=True))


@maker
def centralize(optimizer: Optimizer, *, axis: int = -1) -> Optimizer:
    """The optimizer, given each unit's gradient less its mean, g <- g - mean(g), over all axes but the units'.

    That is the last one in fnn's kernels; axis=0 is torch's layout, which optax takes as well. Vectors stay as they
    are. ConfigError unless axis is -1 or 0 [Yong et al. 2020, arXiv:2004.01461].
    """
    checks.choice("centralize axis", axis, (-1, 0))

    def one(g: jax.Array) -> jax.Array:
        if g.ndim < 2:
            return g
        axes = tuple(range(g.ndim - 1) if axis == -1 else range(1, g.ndim))
        wide = widened(g)
        return (wide - wide.mean(axes, keepdims=True)).astype(g.dtype)

    return before("centralize", optimizer, lambda grads, params: jax.tree.map(one, grads))


class NoiseState(NamedTuple):
    """The steps made."""

    inner: OptState
    step: Step


@maker
def noise(
    key: RandomKey, optimizer: Optimizer, *, variance: Number = 0.01, decay: Number = 0.55
) -> Optimizer:
    """The optimizer, given gradients with Gaussian noise of variance(t) = variance / (1 + t)^decay, t = 0, 1, ...

    Each step and each leaf draws by a key of its own, folded from this one. ConfigError unless variance and decay >= 0
    [Neelakantan et al. 2015, arXiv:1511.06807].
    """
    checks.key("noise key", key)
    inner = extended("noise optimizer", optimizer)
    checks.number("noise variance", variance, "[0, inf)")
    checks.number("noise decay", decay, "[0, inf)")

    def init(params: Params) -> NoiseState:
        return NoiseState(unscaled("noise optimizer", inner.init(params)), jnp.zeros((), jnp.int32))

    def over(
        advance: Advance, grads: Params, opt_state: NoiseState, params: Params, **extra: Any
    ) -> tuple[Params, NoiseState]:
        now = jax.random.fold_in(key, opt_state.step)
        t = opt_state.step.astype(jnp.result_type(float))
        deviation = root(trees.knob(variance, t) * (1 + t) ** -trees.knob(decay, t))

        def one(place: int, g: jax.Array) -> jax.Array:
            wide = widened(g)
            drawn = jax.random.normal(jax.random.fold_in(now, place), g.shape, wide.dtype)
            return (wide + deviation.astype(wide.dtype) * drawn).astype(g.dtype)

        noisy = [one(place, g) for place, g in enumerate(jax.tree.leaves(grads))]
        changed, own = advance(
            inner,
            jax.tree.unflatten(jax.tree.structure(grads), noisy),
            opt_state.inner,
            params,
            **extra,
        )
        return changed, NoiseState(own, opt_state.step + 1)

    return around(init, over)
