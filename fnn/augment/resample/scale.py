"""Antialiased scaling along rows and columns."""

import functools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn.augment.intensity import to_float
from fnn.augment.ops import GeometricOp
from fnn.types import Image

# Up to this number of taps per pixel, a sum of gathers is faster than a matrix product, of whose
# entries most are zero.
FEW_TAPS = 10


def triangle(distance: Array) -> Array:
    """Kernel of bilinear interpolation: max(0, 1 - |x|)."""
    height = 1 - jnp.abs(distance)
    return jnp.maximum(0, height)


def cubic(distance: Array) -> Array:
    """Keys' cubic kernel with a = -1/2, as in Pillow and in PyTorch's antialiased bicubic."""
    x = jnp.abs(distance)
    near = (1.5 * x - 2.5) * x * x + 1  # for |x| < 1
    far = (-0.5 * x + 2.5) * x - 4
    far = far * x + 2  # for 1 <= |x| < 2
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))


Kernel = Callable[[Array], Array]

# Kernel and radius of each method.
KERNELS: dict[str, tuple[Kernel, int]] = {
    "bilinear": (triangle, 1),
    "bicubic": (cubic, 2),
}


def rescale(image: Image, op: GeometricOp) -> Image:
    """Apply an op with known support: (height, width, channels) -> (*size, channels).

    Each new pixel is the weighted mean of the pixels within max(1, scale) times the radius of the
    kernel. Pixels outside of the new image's window have no weight, as if the window had been
    cropped before, as in Pillow. Bytes are rounded.
    """
    assert op.support is not None
    levels = to_float(image)
    for axis, support in enumerate(op.support):
        levels = _rescale_axis(levels, axis, support, op)
    if image.dtype == jnp.uint8:
        levels = jnp.clip(jnp.round(levels), 0, 255)
    return levels.astype(image.dtype)


def _rescale_axis(
    levels: Array,
    axis: int,
    support: int,
    op: GeometricOp,
) -> Array:
    length = levels.shape[axis]
    scale = op.matrix[axis, axis]
    start = op.matrix[axis, 2]
    size = op.size[axis]
    index, weights = _taps(length, size, scale, start, support, op.method)
    weights = weights.astype(levels.dtype)
    if support > FEW_TAPS:
        one_hot = jax.nn.one_hot(index, length, dtype=levels.dtype)  # (size, support, length)
        terms = weights[..., None] * one_hot
        dense = terms.sum(1)  # (size, length)
        highest = jax.lax.Precision.HIGHEST
        product = jnp.tensordot(dense, levels, (1, axis), precision=highest)
        return jnp.moveaxis(product, 0, axis)
    # (size, 1, 1) for rows, (1, size, 1) for columns.
    shape = [1, 1, 1]
    shape[axis] = -1
    # Indices outside of the image have weight 0, so it does not matter that they are clipped.
    take = partial(jnp.take, levels, axis=axis, mode="clip")

    def term(k: int) -> Array:
        weight = weights[:, k].reshape(shape)
        return weight * take(index[:, k])

    return functools.reduce(jnp.add, map(term, range(support)))


def _taps(
    length: int,
    size: int,
    scale: Array,
    start: Array,
    support: int,
    method: str,
) -> tuple[Array, Array]:
    """Indices (size, support) of the source pixels of each new pixel, and their weights."""
    kernel, radius = KERNELS[method]
    # The kernel is widened when the image shrinks, which makes the result antialiased.
    width = jnp.maximum(1, jnp.abs(scale))
    centers = scale * jnp.arange(size, dtype=jnp.float32) + start
    # The window ends half a new pixel beyond the first and the last center.
    first_end = centers[0] - scale / 2
    last_end = centers[-1] + scale / 2
    ends = jnp.stack([first_end, last_end])
    # With a negative scale, a flip, the first end is the larger one.
    lowest = jnp.ceil(ends.min())
    lowest = jnp.maximum(lowest, 0)
    highest = jnp.floor(ends.max())
    highest = jnp.minimum(highest, length - 1)
    first = jnp.ceil(centers - width * radius)[:, None]
    steps = jnp.arange(support, dtype=jnp.float32)[None, :]
    index = first + steps  # (size, support)
    distance = (index - centers[:, None]) / width
    weights = kernel(distance)
    in_window = (index >= lowest) & (index <= highest)
    weights = jnp.where(in_window, weights, 0)
    index = index.astype(jnp.int32)
    # The weights are normalized, also where the window cuts the kernel off.
    total = weights.sum(1, keepdims=True)
    return index, weights / total
