"""Transforms of gradients before the optimizer: clipping, centralization and noise."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.optim.per_parameter import divide_where, global_norm, root, widen
from fnn.optim.transform import (
    Advance,
    expect_unscaled,
    leave_frozen_out,
    make_wrapper,
    scale,
    transform_grads,
)
from fnn.types import Number, Optimizer, OptState, Params, RandomKey, Step
from fnn.values import maker

# Clipping.


@maker
def clip_by_value(optimizer: Optimizer, limit: Number) -> Optimizer:
    """Clip each number of the gradient to [-limit, limit].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        limit: Largest absolute value, > 0; inf for no clipping.

    Raises:
        ConfigError: `limit` is out of range, or `optimizer` is not an optimizer or scales the loss.
    """
    checks.number("clip_by_value limit", limit, "(0, inf]")

    def clip(g: Array) -> Array:
        largest = trees.knob(limit, g)
        return jnp.clip(g, -largest, largest)

    def change(grads: Params, params: Params) -> Params:
        return jax.tree.map(clip, grads)

    return transform_grads("clip_by_value", optimizer, change)


@maker
def clip_by_global_norm(optimizer: Optimizer, limit: Number, *, eps: Number = 0.0) -> Optimizer:
    """Rescale the gradient of all parameters if its norm is above a limit.

    g <- g min(1, limit / (‖g‖ + eps)), the norm over all
    parameters [Pascanu et al. 2013, arXiv:1211.5063].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        limit: Largest norm, > 0; inf for no clipping.
        eps: Added to the norm, >= 0; torch has 1e-6.

    Raises:
        ConfigError: A number is out of range, or `optimizer`
            is not an optimizer or scales the loss.
    """
    checks.number("clip_by_global_norm limit", limit, "(0, inf]")
    checks.number("clip_by_global_norm eps", eps, "[0, inf)")

    def change(grads: Params, params: Params) -> Params:
        # The norm is a number in float32 or wider, also for gradients in half precision.
        norm = global_norm(grads)
        norm = norm + trees.knob(eps, norm)
        factor = _clip_factor(norm, trees.knob(limit, norm))
        return jax.tree.map(lambda g: scale(factor, g), grads)

    return transform_grads("clip_by_global_norm", optimizer, change)


@maker
def adaptive_clip(optimizer: Optimizer, limit: Number = 0.01, *, floor: Number = 1e-3) -> Optimizer:
    """Adaptive gradient clipping: limit each unit's gradient relative to the norm of the unit.

    g <- g min(1, limit max(‖θ‖, floor) / ‖g‖). Norms are over all axes but the last, which counts
    units, and over all of a vector. The paper leaves the last layer out, for which there is
    `partition` [Brock et al. 2021, arXiv:2102.06171].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        limit: Largest ratio of the norms, > 0; inf for no
            clipping. The paper's value for large batches.
        floor: Least norm of a unit, > 0, so that units of 0 are trained.

    Raises:
        ConfigError: A number is out of range, or `optimizer`
            is not an optimizer or scales the loss.
    """
    checks.number("adaptive_clip limit", limit, "(0, inf]")
    checks.number("adaptive_clip floor", floor, "(0, inf)")

    def clip(g: Array, p: Array) -> Array:
        p_norm = _unit_norms(p)
        # (1, ..., units)
        p_norm = jnp.maximum(p_norm, trees.knob(floor, p_norm))
        largest = trees.knob(limit, p_norm) * p_norm
        factor = _clip_factor(_unit_norms(g), largest)
        return scale(factor, g)

    def change(grads: Params, params: Params) -> Params:
        return jax.tree.map(clip, grads, params)

    return transform_grads("adaptive_clip", optimizer, change)


def _clip_factor(norm: Array, limit: Number) -> Array:
    """min(1, limit / norm), with a finite derivative at 0."""
    return divide_where(norm > limit, limit, norm, 1)


def _unit_norms(x: Array) -> Array:
    """(..., units) -> (1, ..., units)"""
    # A vector or a scalar is one unit: axes of None are all of them.
    wide = widen(x)
    axes = tuple(range(wide.ndim - 1)) if wide.ndim > 1 else None
    square = jnp.square(wide)
    return root(square.sum(axes, keepdims=True))


# Centralization.


@maker
def centralize(optimizer: Optimizer, *, axis: int = -1) -> Optimizer:
    """Gradient centralization: subtract the mean of each unit's gradient.

    g <- g - mean(g), the mean over all axes but that of the units. Vectors and scalars stay as they
    are [Yong et al. 2020, arXiv:2004.01461].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        axis: The axis of the units: -1 for fnn's kernels, 0
            for torch's layout, which optax takes as well.

    Raises:
        ConfigError: `axis` is neither -1 nor 0, or `optimizer`
            is not an optimizer or scales the loss.
    """
    checks.choice("centralize axis", axis, (-1, 0))

    def center(g: Array) -> Array:
        # A vector has one number per unit, which its mean would make 0.
        if g.ndim < 2 or g.size == 0:
            return g
        axes = tuple(range(g.ndim))
        others = axes[:-1] if axis == -1 else axes[1:]
        wide = widen(g)
        mean = wide.mean(others, keepdims=True)  # (1, ..., units) or (units, 1, ...)
        return (wide - mean).astype(g.dtype)

    def change(grads: Params, params: Params) -> Params:
        return jax.tree.map(center, grads)

    return transform_grads("centralize", optimizer, change)


# Noise.


class NoiseState(NamedTuple):
    """The state of `noise`.

    Attributes:
        inner: The state of the optimizer.
        step: The number of steps made.
    """

    inner: OptState
    step: Step


@maker
def noise(
    key: RandomKey, optimizer: Optimizer, *, variance: Number = 0.01, decay: Number = 0.55
) -> Optimizer:
    """Gradient noise: add Gaussian noise whose variance falls with time.

    variance(t) = variance / (1 + t)^decay, t = 0, 1, ... [Neelakantan et al. 2015,
    arXiv:1511.06807].

    Args:
        key: A key from jax.random.key. Each step and each
            leaf draws by a key that is folded from it.
        optimizer: An optimizer, of fnn or of another library.
        variance: The variance in the first step, >= 0; a value of the paper.
        decay: Exponent of the fall, >= 0; the paper's value.

    Raises:
        ConfigError: A number is out of range, or `optimizer`
            is not an optimizer or scales the loss.
        DTypeError: `key` is not a key.
    """
    checks.key("noise key", key)
    checks.number("noise variance", variance, "[0, inf)")
    checks.number("noise decay", decay, "[0, inf)")

    def wrap(inner: Optimizer) -> Optimizer:
        def init(params: Params) -> NoiseState:
            opt_state = expect_unscaled("noise optimizer", inner.init(params))
            return NoiseState(opt_state, jnp.zeros((), jnp.int32))

        def transform(
            advance: Advance,
            grads: Params,
            opt_state: NoiseState,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, NoiseState]:
            # The key follows from the step, so that a resumed run draws the same noise.
            step_key = jax.random.fold_in(key, opt_state.step)
            t = opt_state.step.astype(jnp.result_type(float))
            fall = (1 + t) ** -trees.knob(decay, t)
            deviation = root(trees.knob(variance, t) * fall)

            def add_noise(i: int, g: Array) -> Array:
                wide = widen(g)
                # A key per leaf: with one key, leaves of equal shape would get equal noise.
                leaf_key = jax.random.fold_in(step_key, i)
                normal = jax.random.normal(leaf_key, g.shape, wide.dtype)
                noisy = wide + deviation.astype(wide.dtype) * normal
                return noisy.astype(g.dtype)

            leaves, structure = jax.tree.flatten(grads)
            noisy = [add_noise(i, g) for i, g in enumerate(leaves)]
            noisy_grads = jax.tree.unflatten(structure, noisy)
            changed, inner_state = advance(inner, noisy_grads, opt_state.inner, params, **extra)
            return changed, NoiseState(inner_state, opt_state.step + 1)

        return make_wrapper(init, transform)

    return leave_frozen_out("noise", wrap, optimizer)
