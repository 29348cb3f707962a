"""Mean, variance and the normalized output: shared code of the normalizations."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.nn.core.wide_sums import along_last
from fnn.types import Layer, Number, Params, Shape, State
from fnn.xla import on_cpu_else

INITIAL_VALUES = {"scale": jnp.ones, "bias": jnp.zeros}
AFFINE = tuple(INITIAL_VALUES)  # names of the parameters of a normalization that scales and shifts


def normalization(
    where: str,
    names: tuple[str, ...],
    params_shape: Callable[[Shape], Shape],
    function: Callable[[jax.Array, Params], jax.Array],
) -> Layer:
    """Make a layer y = function(x, params) without state, computed in float32 at least.

    Args:
        where: Name of the layer.
        names: Names of the params, a part of AFFINE.
        params_shape: The shape of each param by the shape of an example; raises for an example that
            cannot be normalized.
        function: The normalization of a batch.
    """

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        own_shape = params_shape(checks.one_shape(where, shape))
        return {name: INITIAL_VALUES[name](own_shape) for name in names}, {}, shape

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        checks.floating(f"{where} x", x)
        # The check of x comes first: its error explains more than one of the params.
        own_shape = params_shape(x.shape[1:])
        trees.expect_arrays(where, params, dict.fromkeys(names, own_shape))
        wide = x.astype(trees.wide(x))
        return function(wide, params).astype(x.dtype), state

    return Layer(init, apply, where)


def moments(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Return the mean and the biased variance over the axes, which keep size 1."""
    # Distances from one of the values: the sum of large equal numbers is rounded, and the square of
    # the error of their mean would be their variance. The value cancels, and so does its gradient.
    one = jax.lax.stop_gradient(_one_value(x, axes))
    mean = one + (x - one).mean(axes, keepdims=True)
    # E[x²] - E[x]² would cancel: at mean 3000 and std 1 float32 loses the variance altogether.
    return mean, jnp.square(x - mean).mean(axes, keepdims=True)


def moments_by_sums(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Return the `moments` of x, faster on CPU where x is an array in memory.

    On CPU a plain sum is computed by a faster program than one of distances from one of the values.
    The rounding of its mean is corrected afterwards, where it may matter: where two of the values
    are so close to a mean that rounding may explain the distances. Otherwise the standard deviation
    exceeds the rounding. Where nothing is to be corrected the pass over x is skipped.

    Args:
        x: The batch.
        axes: Axes of the means, which keep size 1.
    """
    rounded = x.mean(axes, keepdims=True)
    # In exact arithmetic the correction is 0, whatever x is: it adds nothing to the derivative.
    fixed = jax.lax.stop_gradient((x, rounded))
    by_platform = on_cpu_else(partial(_rounding_if_close, axes), partial(_rounding, axes))
    mean = rounded + by_platform(*fixed)
    return mean, jnp.square(x - mean).mean(axes, keepdims=True)


def _rounding_if_close(axes: tuple[int, ...], x: jax.Array, mean: jax.Array) -> jax.Array:
    """Return `_rounding` if two values are close to any of the means, otherwise zeros."""
    # The sum of equal numbers is off by less than eps times their count.
    count = math.prod(x.shape[axis] for axis in axes)
    tolerance = count * jnp.finfo(x.dtype).eps
    is_close = jnp.ones((1,) * x.ndim, bool)
    for part in (0, 1):
        value = _one_value(x, axes, part)
        is_close &= jnp.abs(value - mean) <= tolerance * jnp.abs(value)

    def nothing(x: jax.Array, mean: jax.Array) -> jax.Array:
        # Within a shard_map the zeros must vary over devices as the means do.
        return jnp.zeros_like(mean)

    return jax.lax.cond(is_close.any(), partial(_rounding, axes), nothing, x, mean)


def _rounding(axes: tuple[int, ...], x: jax.Array, mean: jax.Array) -> jax.Array:
    """Return the error of the rounded mean of x."""
    return (x - mean).mean(axes, keepdims=True)


def moments_of_places(x: jax.Array, groups: int) -> tuple[jax.Array, jax.Array]:
    """Return the `moments` over the places of an image and groups of its channels.

    The results are (batch, 1, ..., channels). On CPU, XLA computes sums over places alone by a
    faster program than sums over places and channels. A slice of x would break it up, so that the
    second pass takes the distances from the rounded mean.

    Args:
        x: (batch, ..., channels) with at least one axis between.
        groups: Number of groups, which divides the channels.
    """
    axes = tuple(range(1, x.ndim - 1))

    def mean_of(values: jax.Array) -> jax.Array:
        means = values.mean(axes, keepdims=True)  # (batch, 1, ..., channels)
        if groups == x.shape[-1]:
            return means
        # (batch, 1, ..., channels) -> (batch, 1, ..., groups, channels / groups)
        grouped = means.reshape(*means.shape[:-1], groups, -1)
        mean = grouped.mean(-1, keepdims=True)
        return jnp.broadcast_to(mean, grouped.shape).reshape(means.shape)

    rounded = mean_of(x)
    # Of equal numbers, the distances are equal, and their mean is the rounding of the first mean.
    # In exact arithmetic it is 0, whatever x is, so that it adds nothing to the derivative.
    fixed_x, fixed_mean = jax.lax.stop_gradient((x, rounded))
    mean = rounded + mean_of(fixed_x - fixed_mean)
    return mean, mean_of(jnp.square(x - mean))


def _one_value(x: jax.Array, axes: tuple[int, ...], part: float = 0) -> jax.Array:
    """Return one of the values along the axes, which keep size 1, at a part of each axis."""
    spec = jax.typeof(x).sharding.spec
    for axis in axes:
        if spec[axis] is None:
            index = int(part * (x.shape[axis] - 1))
            x = jax.lax.slice_in_dim(x, index, index + 1, axis=axis)
            continue
        # An axis that is explicitly sharded can be reduced, but not sliced.
        x = x.max(axis, keepdims=True)
    return x


def normalize(
    x: jax.Array,
    mean: Number,
    square: jax.Array,
    eps: Number,
    params: Params,
) -> jax.Array:
    """Return scale (x - mean) / √(square + eps) + bias.

    Args:
        x: The batch.
        mean: The mean to subtract, which broadcasts to x.
        square: The variance, or the mean of squares, which broadcasts to x.
        eps: Number added under the root.
        params: `scale` and `bias`, both optional, whose axes are the last axes of x.
    """
    # (channels,) -> (1, ..., 1, channels)
    affine = {name: along_last(array.astype(x.dtype), x) for name, array in params.items()}
    slope = 1 / jnp.sqrt(square + trees.knob(eps, square))
    centered = x - mean
    # The two small arrays are multiplied first: one product over x instead of two.
    if "scale" in affine:
        slope = slope * affine["scale"]
    y = centered * slope
    return y + affine["bias"] if "bias" in affine else y


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def normalized(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    eps: jax.Array,
    axes: tuple[int, ...],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return scale (x - mean) / √(var + eps) + bias, and mean and var over the axes.

    The derivative with respect to x, scale, bias and eps is written by hand. It has one factor and
    one summand for each mean, so that its transpose takes two sums over x, of g and of
    (x - mean) g, from which all gradients follow. The derivative by JAX takes four, and twice the
    time on CPU.

    Args:
        x: The batch.
        scale: The scale, of the rank of x.
        bias: The bias, of the rank of x.
        eps: Number added under the root, of the rank of x.
        axes: Axes of the statistics.
    """
    # An image is often a sum that is computed in the loops that read it.
    statistics = moments_by_sums if x.ndim == 2 else moments
    mean, var = statistics(x, axes)
    y = (x - mean) * (scale * jax.lax.rsqrt(var + eps)) + bias
    return y, mean, var


@normalized.defjvp
def _(
    axes: tuple[int, ...],
    primals: tuple[jax.Array, ...],
    tangents: tuple[jax.Array, ...],
) -> tuple[Any, Any]:
    x, scale, _, eps = primals
    dx, dscale, dbias, deps = tangents
    # The custom rule applies again, for second derivatives.
    y, mean, var = normalized(*primals, axes)
    slope = jax.lax.rsqrt(var + eps)
    dmean = dx.mean(axes, keepdims=True)
    centered = x - mean
    dvar = 2 * (centered * dx).mean(axes, keepdims=True)
    dslope = -0.5 * slope**3 * (dvar + deps)
    # y = factor (x - mean) + bias. The terms with x come first, those without it are small arrays.
    factor = scale * slope
    dfactor = dscale * slope + scale * dslope
    dy = factor * dx + centered * dfactor + (dbias - factor * dmean)
    return (y, mean, var), (dy, dmean, dvar)
