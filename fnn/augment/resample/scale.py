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
from fnn.xla import materialize, rounded_product

# Up to this number of taps per pixel, a sum of gathers is faster than a matrix product, of whose
# entries most are zero.
FEW_TAPS = 10

# Fraction bits of the weights of bytes, as whole numbers. 22 are Pillow's, for sums in int32; with
# 15 a matrix product in float32 is exact.
PRECISE = 22
COARSE = 15


def triangle(distance: Array) -> Array:
    """Kernel of bilinear interpolation: max(0, 1 - |x|)."""
    height = 1 - jnp.abs(distance)
    return jnp.maximum(0, height)


def cubic(distance: Array) -> Array:
    """Keys' cubic kernel with a = -1/2, as in Pillow and in PyTorch's antialiased bicubic."""
    x = jnp.abs(distance)
    # for |x| < 1: (1.5 x - 2.5) x² + 1
    near = rounded_product(rounded_product(jnp.float32(1.5), x) - 2.5, x * x) + 1
    # for 1 <= |x| < 2: ((2.5 - 0.5 x) x - 4) x + 2
    far = rounded_product(2.5 - rounded_product(jnp.float32(0.5), x), x) - 4
    far = rounded_product(far, x) + 2
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
    cropped before, as in Pillow. Bytes are resized along the columns, then along the rows, and are
    clipped and rounded after each, as in Pillow.
    """
    assert op.support is not None
    if image.dtype == jnp.uint8:
        for axis in (1, 0):
            image = _rescale_bytes(image, axis, op.support[axis], op)
        return image
    levels = to_float(image)
    for axis, support in enumerate(op.support):
        levels = _rescale_floats(levels, axis, support, op)
    return levels.astype(image.dtype)


def _rescale_floats(
    levels: Array,
    axis: int,
    support: int,
    op: GeometricOp,
) -> Array:
    length = levels.shape[axis]
    index, weights = _taps(length, axis, support, op)
    weights = weights.astype(levels.dtype)
    if support > FEW_TAPS:
        return _dense_product(index, weights, levels, axis)
    return _sum_of_gathers(index, weights, levels, axis)


def _rescale_bytes(
    image: Image,
    axis: int,
    support: int,
    op: GeometricOp,
) -> Image:
    """Resize bytes along an axis in whole numbers, so that every program gives the same bytes."""
    length = image.shape[axis]
    index, weights = _taps(length, axis, support, op)
    if support > FEW_TAPS:
        # All products and sums are whole numbers below 2²⁴, which float32 holds exactly.
        levels = to_float(image)
        total = _dense_product(index, _whole_weights(weights, COARSE), levels, axis)
        mean = jnp.floor((total + 2 ** (COARSE - 1)) * 2.0**-COARSE)
    else:
        levels = image.astype(jnp.int32)
        whole = _whole_weights(weights, PRECISE).astype(jnp.int32)
        total = _sum_of_gathers(index, whole, levels, axis)
        mean = total + 2 ** (PRECISE - 1) >> PRECISE
    return jnp.clip(mean, 0, 255).astype(jnp.uint8)


def _whole_weights(weights: Array, bits: int) -> Array:
    """Weights (size, support) in units of 2⁻ᵇⁱᵗˢ: whole numbers as float32, with the exact sum."""
    units = jnp.round(weights * 2.0**bits)
    if bits == PRECISE:
        return units
    # What rounding has added to the sum is taken from the largest weight, so that a flat image
    # stays flat.
    excess = units.sum(1, keepdims=True) - 2.0**bits
    taps = jnp.arange(units.shape[1], dtype=jnp.int32)[None, :]
    is_largest = taps == jnp.argmax(units, 1, keepdims=True).astype(jnp.int32)
    return jnp.where(is_largest, units - excess, units)


def _dense_product(
    index: Array,
    weights: Array,
    levels: Array,
    axis: int,
) -> Array:
    """The weighted sums along an axis, as a matrix product."""
    one_hot = jax.nn.one_hot(index, levels.shape[axis], dtype=levels.dtype)
    terms = weights[..., None] * one_hot  # (size, support, length)
    dense = terms.sum(1)  # (size, length)
    highest = jax.lax.Precision.HIGHEST
    product = jnp.tensordot(dense, levels, (1, axis), precision=highest)
    return jnp.moveaxis(product, 0, axis)


def _sum_of_gathers(
    index: Array,
    weights: Array,
    levels: Array,
    axis: int,
) -> Array:
    """The weighted sums along an axis, tap by tap."""
    # (size, 1, 1) for rows, (1, size, 1) for columns.
    shape = [1, 1, 1]
    shape[axis] = -1
    # Indices outside of the image have weight 0, so it does not matter that they are clipped.
    take = partial(jnp.take, levels, axis=axis, mode="clip")

    def term(k: int) -> Array:
        weight = weights[:, k].reshape(shape)
        return weight * take(index[:, k])

    return functools.reduce(jnp.add, map(term, range(weights.shape[1])))


def _taps(
    length: int,
    axis: int,
    support: int,
    op: GeometricOp,
) -> tuple[Array, Array]:
    """Indices (size, support) of the source pixels of each new pixel, and their weights.

    The window begins at the whole number `edge` and has a whole number `side` of pixels, which is
    negative for a flip. So the center of new pixel i is edge - 1/2 + (2 i + 1) side / (2 size), a
    quotient of whole numbers. Its taps are found in whole numbers: floats may be rounded in
    another way in each program, and a tap that is one pixel off has another weight.
    """
    size = op.size[axis]
    scale = op.matrix[axis, axis]
    edge = jnp.round(op.matrix[axis, 2] - scale / 2 + 0.5).astype(jnp.int32)
    side = jnp.round(scale * size).astype(jnp.int32)
    kernel, radius = KERNELS[op.method]
    # The kernel is widened when the image shrinks, which makes the result antialiased: by
    # width / size, in pixels.
    width = jnp.maximum(jnp.abs(side), size)
    # Distance of each center from `edge`, in units of 1 / (2 size) pixels.
    numbers = jnp.arange(size, dtype=jnp.int32)
    centers = (2 * numbers + 1) * side - size
    begins = centers - 2 * radius * width
    first = -(-begins // (2 * size))  # rounded up
    steps = jnp.arange(support, dtype=jnp.int32)
    offset = first[:, None] + steps[None, :]  # (size, support), in pixels from the edge
    distance = 2 * size * offset - centers[:, None]
    weights = kernel(distance.astype(jnp.float32) / (2 * width).astype(jnp.float32))
    index = edge + offset
    lowest = jnp.maximum(jnp.minimum(edge, edge + side), 0)
    highest = jnp.minimum(jnp.maximum(edge, edge + side), length)
    in_window = (index >= lowest) & (index < highest)
    # In whole units, whose sum is exact. The weights are normalized, also where the window cuts
    # the kernel off.
    units = jnp.where(in_window, jnp.round(weights * 2.0**PRECISE), 0).astype(jnp.int32)
    total = units.sum(1, keepdims=True)
    weights = units.astype(jnp.float32) / total.astype(jnp.float32)
    return materialize((index, weights))
