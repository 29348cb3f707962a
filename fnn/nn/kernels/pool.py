"""Pooling by strided slices, axis by axis.

On CPU the gradient of `lax.reduce_window` is 3 to 10 times slower. Windows are pooled along the
width, then the height, then the depth: with overlapping windows the backward pass is 5 times faster
than a comparison of all positions at once, since the work grows with the sum of the sizes, not with
their product.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnn import trees
from fnn.nn.kernels import max_pool_tiles

Pads = tuple[tuple[int, int], ...]
Sizes = tuple[int, ...]
# (x, axis, fill) -> an array for each position in the window, with `fill` outside of x, and the
# number of elements of x in each window.
Candidates = Callable[[Array, int, float], tuple[list[Array], np.ndarray]]


def max_pool(
    x: Array,
    window: Sizes,
    stride: Sizes,
    padding: Pads,
    dilation: Sizes | None = None,
) -> Array:
    """Return the largest value of each window.

    NaN is the largest, and the first of equal maxima takes the gradient, as in torch.

    Args:
        x: (batch, height, width, channels), or with one or three spatial axes.
        window: Size of the window, one number an axis.
        stride: Distance of the windows, one number an axis.
        padding: A (low, high) pair an axis, filled with -inf.
        dilation: Distance of the elements of a window, one number an axis; 1 if None.
    """
    dilation = dilation or (1,) * len(window)
    # Windows that do not overlap have a faster form.
    has_padding = any(map(any, padding))
    is_dense = all(step == 1 for step in dilation)
    if stride == window and is_dense and not has_padding:
        return max_pool_tiles.max_pool(x, window)
    return _max(x, _sliding_windows(window, stride, padding, dilation, padding))


def avg_pool(
    x: Array,
    window: Sizes,
    stride: Sizes,
    padding: Pads,
    counted: Pads | None = None,
) -> Array:
    """Return the mean of each window.

    Args:
        x: As for `max_pool`.
        window: As for `max_pool`.
        stride: As for `max_pool`.
        padding: A (low, high) pair an axis, filled with 0.
        counted: The part of the padding whose zeros are elements of the windows; none if None.
    """
    no_dilation = (1,) * len(window)
    counted = counted or ((0, 0),) * len(window)
    return _mean(x, _sliding_windows(window, stride, padding, no_dilation, counted))


def adaptive_max_pool(x: Array, size: Sizes) -> Array:
    """Return the largest value of each region, of which each axis has `size`; as `max_pool`."""
    window = []
    for n, m in zip(x.shape[1:-1], size, strict=True):
        if n % m:
            return _max(x, _adaptive_regions(size))  # regions overlap
        window.append(n // m)
    return max_pool_tiles.max_pool(x, tuple(window))


def adaptive_avg_pool(x: Array, size: Sizes) -> Array:
    """Return the mean of each region, of which each axis has `size`."""
    return _mean(x, _adaptive_regions(size))


def _max(x: Array, candidates: Candidates) -> Array:
    # The maximum of maxima along one axis after another is that of the whole window.
    for axis in _spatial_axes(x):
        values, _ = candidates(x, axis, -jnp.inf)
        x = _first_max(values)
    return x


def _first_max(values: list[Array]) -> Array:
    """Return the elementwise maximum, with the gradient of the first array that has it."""
    top = lax.stop_gradient(functools.reduce(jnp.maximum, values))
    # Comparing again is plain arithmetic, differentiable in every mode. The arrays are in reverse
    # order, so that the first is selected last. NaN equals nothing, so that it stays from `top`.
    y = top
    for value in reversed(values):
        y = jnp.where(value == top, value, y)
    return y


def _mean(x: Array, candidates: Candidates) -> Array:
    dtype = x.dtype
    x = x.astype(trees.wide(x))  # sums in float32 at least
    for axis in _spatial_axes(x):
        values, counts = candidates(x, axis, 0.0)
        total = functools.reduce(jnp.add, values)
        # A window in the padding only has no elements; 0 / 1 instead of 0 / 0.
        divisors = np.maximum(counts, 1)
        x = total / jnp.asarray(divisors, x.dtype)
    return x.astype(dtype)


def _spatial_axes(x: Array) -> range:
    """Return the spatial axes, the last first, so that of equal maxima the first row-major wins."""
    return range(x.ndim - 2, 0, -1)


def _sliding_windows(
    window: Sizes,
    stride: Sizes,
    padding: Pads,
    dilation: Sizes,
    counted: Pads,
) -> Candidates:
    """Return the candidates of windows at regular distances."""

    def candidates(
        x: Array,
        axis: int,
        fill: float,
    ) -> tuple[list[Array], np.ndarray]:
        i = axis - 1  # the spatial axes follow the batch
        offsets = range(0, window[i] * dilation[i], dilation[i])
        return _strided_slices(x, axis, offsets, stride[i], padding[i], counted[i], fill)

    return candidates


def _adaptive_regions(size: Sizes) -> Candidates:
    """Return the candidates of m regions an axis: region i is from ⌊i n / m⌋ to ⌈(i + 1) n / m⌉."""

    def candidates(
        x: Array,
        axis: int,
        fill: float,
    ) -> tuple[list[Array], np.ndarray]:
        n = x.shape[axis]
        regions = size[axis - 1]
        if n % regions == 0:
            width = n // regions
            return _strided_slices(x, axis, range(width), width, (0, 0), (0, 0), fill)
        starts = np.arange(regions) * n // regions
        next_regions = np.arange(1, regions + 1)
        ends = -(-next_regions * n // regions)  # rounded up
        counts = _align_axis(axis, ends - starts, x.ndim)
        values = []
        for offset in range(counts.max()):
            # Shorter regions repeat their last element, which `fill` then replaces: the indices of
            # one gather stay unique, for a fast gradient.
            indices = np.minimum(starts + offset, ends - 1)
            is_unique = regions <= n
            value = jnp.take(
                x,
                indices,
                axis,
                mode="clip",
                unique_indices=is_unique,
                indices_are_sorted=True,
            )
            values.append(jnp.where(offset < counts, value, fill))
        return values, counts

    return candidates


def _strided_slices(
    x: Array,
    axis: int,
    offsets: range,
    stride: int,
    padding: tuple[int, int],
    counted: tuple[int, int],
    fill: float,
) -> tuple[list[Array], np.ndarray]:
    """Return one strided slice of x for each position in the window, and the counts of elements.

    Elements are those of x and of the counted padding; the counts are right without dilation.
    """
    pads: list[Any] = [(0, 0)] * x.ndim
    pads[axis] = padding
    padded = jnp.pad(x, pads, constant_values=fill)
    # The first index of the last window; elements after it that fill no window are left over.
    reach = offsets[-1] + 1
    last = (padded.shape[axis] - reach) // stride * stride
    # The elements of a window that begins at this index of x, negative in the padding.
    low, _ = padding
    counted_low, counted_high = counted
    starts = np.arange(0, last + 1, stride) - low
    ends = np.minimum(starts + reach, x.shape[axis] + counted_high)
    counts = ends - np.maximum(starts, -counted_low)
    slices = []
    for offset in offsets:
        end = offset + last + 1
        slices.append(lax.slice_in_dim(padded, offset, end, stride, axis))
    return slices, _align_axis(axis, counts, x.ndim)


def _align_axis(
    axis: int,
    vector: np.ndarray,
    rank: int,
) -> np.ndarray:
    """Reshape a vector to lie along one axis of an array of this rank."""
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)
