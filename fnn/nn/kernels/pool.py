"""Pooling in plain slices: on CPU the gradient of `lax.reduce_window` takes 3 to 10 times longer than these.

A window is pooled along the width, then along the height, and then along the depth. Windows that overlap are 5 times
faster so, backward, than with all of their positions compared at once: the work grows with the sum of the sizes, not
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
# (x, axis, fill) -> one array per position in the window, with `fill` outside of x, and the number of real elements.
Candidates = Callable[[Array, int, float], tuple[list[Array], np.ndarray]]


def max_pool(x: Array, window: Sizes, stride: Sizes, padding: Pads) -> Array:
    """The largest value of each window; NaN wins, and the first of several maxima takes the gradient, as in torch.

    x (batch, height, width, channel), or one axis or three in the place of height and width; padding is a (low, high)
    pair per axis, of -inf.
    """
    if stride == window and not any(map(any, padding)):
        return max_pool_tiles.largest(x, window)
    return largest(x, sliding(window, stride, padding))


def avg_pool(x: Array, window: Sizes, stride: Sizes, padding: Pads) -> Array:
    """The mean of the real elements in each window: padding is not counted. x and padding as in `max_pool`."""
    return mean(x, sliding(window, stride, padding))


def adaptive_max_pool(x: Array, size: Sizes) -> Array:
    """The largest value of each of so many regions per axis, with NaN and equals as in `max_pool`."""
    windows, left_over = zip(*map(divmod, x.shape[1:-1], size), strict=True)
    return largest(x, regions(size)) if any(left_over) else max_pool_tiles.largest(x, windows)


def adaptive_avg_pool(x: Array, size: Sizes) -> Array:
    """The mean of each of so many regions per axis."""
    return mean(x, regions(size))


def largest(x: Array, candidates: Candidates) -> Array:
    for axis in last_to_first(x):
        found, _ = candidates(x, axis, -jnp.inf)
        x = first_largest(found)
    return x


def first_largest(found: list[Array]) -> Array:
    top = lax.stop_gradient(functools.reduce(jnp.maximum, found))
    # Comparing again keeps this plain arithmetic, differentiable in every mode; NaN equals nothing and stays.
    return functools.reduce(lambda y, c: jnp.where(c == top, c, y), reversed(found), top)


def mean(x: Array, candidates: Candidates) -> Array:
    dtype, x = x.dtype, x.astype(trees.wide(x))
    for axis in last_to_first(x):
        found, real = candidates(x, axis, 0.0)
        x = functools.reduce(jnp.add, found) / jnp.asarray(np.maximum(real, 1), x.dtype)
    return x.astype(dtype)


def last_to_first(x: Array) -> range:
    """The axes between batch and channels: row-major order decides which of equal elements comes first."""
    return range(x.ndim - 2, 0, -1)


def sliding(window: Sizes, stride: Sizes, padding: Pads) -> Candidates:
    """The candidates of windows at regular distances: strided slices."""

    def candidates(x: Array, axis: int, fill: float) -> tuple[list[Array], np.ndarray]:
        return slices(x, axis, window[axis - 1], stride[axis - 1], padding[axis - 1], fill)

    return candidates


def regions(size: Sizes) -> Candidates:
    """The candidates of m regions that cover an axis, the i-th from ⌊i n / m⌋ on and before ⌈(i + 1) n / m⌉."""

    def candidates(x: Array, axis: int, fill: float) -> tuple[list[Array], np.ndarray]:
        n, count = x.shape[axis], size[axis - 1]
        if n % count == 0:
            return slices(x, axis, n // count, n // count, (0, 0), fill)
        starts, ends = np.arange(count) * n // count, -(-np.arange(1, count + 1) * n // count)
        real = along(axis, ends - starts, x.ndim)

        def candidate(place: int) -> Array:
            # In a region that is shorter the last element again, so that no element is taken twice at a time.
            taken = np.minimum(starts + place, ends - 1)
            found = jnp.take(
                x, taken, axis, mode="clip", unique_indices=count <= n, indices_are_sorted=True
            )
            return jnp.where(place < real, found, fill)

        return [candidate(place) for place in range(real.max())], real

    return candidates


def slices(
    x: Array, axis: int, window: int, stride: int, padding: tuple[int, int], fill: float
) -> tuple[list[Array], np.ndarray]:
    """One strided slice of x per position in the window, and the number of real elements in each window."""
    widths: list[Any] = [(0, 0)] * x.ndim
    widths[axis] = padding
    padded = jnp.pad(x, widths, constant_values=fill)
    last = (padded.shape[axis] - window) // stride * stride
    starts = np.arange(0, last + 1, stride) - padding[0]
    real = np.minimum(starts + window, x.shape[axis]) - np.maximum(starts, 0)
    return [lax.slice_in_dim(padded, i, i + last + 1, stride, axis) for i in range(window)], along(
        axis, real, x.ndim
    )


def along(axis: int, numbers: np.ndarray, rank: int) -> np.ndarray:
    """The numbers, a vector, along one axis of an array of that rank."""
    return numbers.reshape([-1 if one == axis else 1 for one in range(rank)])
