"""Antialiased scaling along rows and columns."""

import functools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn.augment.intensity import to_float
from fnn.augment.ops import GeometricOp, Size
from fnn.augment.resample import packed
from fnn.types import Image
from fnn.xla import from_batched, fusion_barrier, materialize, rounded_product

# Up to this number of taps per pixel, a sum of gathers is faster than a matrix product, of whose
# entries most are zero: for floats, and for bytes as packed words.
FEW_TAPS = 10
FEW_TAPS_OF_WORDS = 20

# Fraction bits of the kernel's values as whole numbers, as in Pillow.
PRECISE = 22
# Fraction bits of the weights of bytes. All products and sums are whole numbers below 2²⁴, which
# float32 holds exactly.
FRACTION_BITS = 15


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
    cropped before, as in Pillow. Bytes are clipped and rounded after each axis, as in Pillow, in
    the order of `byte_axes`.
    """
    assert op.support is not None
    if image.dtype == jnp.uint8:
        return _rescale_bytes(image, op)
    levels = to_float(image)
    for axis, support in enumerate(op.support):
        levels = _rescale_floats(levels, axis, support, op)
    return levels.astype(image.dtype)


def byte_axes(old: Size, new: Size) -> tuple[int, int]:
    """The axes in the order in which Pillow 13 resizes them.

    Columns (1), then rows (0); rows first where the height shrinks by more than twice the pixels by
    which the width shrinks. Pillow up to 12 always begins with the columns. The order matters for
    "bicubic", whose overshoot is clipped after the first axis: with "bilinear" the results differ
    by one level at most.
    """
    rows = old[0] - new[0]
    columns = old[1] - new[1]
    if rows > 0 and rows > 2 * columns:
        return (0, 1)
    return (1, 0)


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


def _rescale_bytes(image: Image, op: GeometricOp) -> Image:
    """Resize bytes in whole numbers, so that every program gives the same bytes."""
    assert op.support is not None
    taps: list[Array] = []
    height, width, _ = image.shape
    axes = byte_axes((height, width), op.size)
    for axis in axes:
        index, weights = _taps(image.shape[axis], axis, op.support[axis], op)
        taps += [index, _whole_weights(weights)]
    return from_batched(partial(_rescale_batch, axes))(image, *taps)


def _rescale_batch(axes: tuple[int, int], images: Array, *taps: Array) -> Array:
    """Resize images (batch, height, width, channels) of bytes along two axes.

    Args:
        axes: The axis of the images, without the batch, of each pass.
        images: Bytes.
        taps: Indices and whole weights (batch, size, support) of each pass.
    """
    channels = images.shape[-1]
    passes = [(axes[0], taps[:2]), (axes[1], taps[2:])]
    few_taps = max(taps[0].shape[2], taps[2].shape[2]) <= FEW_TAPS_OF_WORDS
    if few_taps and channels <= packed.MAX_CHANNELS:
        words = fusion_barrier(packed.packed, images)  # (batch, height, width)
        for axis, arrays in passes:
            words = _resize_words(axis, channels, words, *arrays)
        return fusion_barrier(partial(packed.unpacked, channels=channels), words)
    for axis, (index, weights) in passes:
        total = _dense_products(index, weights, to_float(images), axis)
        images = packed.whole_bytes(_whole_mean(total))
    return images


def _resize_words(
    axis: int,
    channels: int,
    words: Array,
    index: Array,
    weights: Array,
) -> Array:
    """Resize packed pixels (batch, height, width) along an axis.

    Args:
        axis: 0 for rows, 1 for columns.
        channels: The number of bytes in a word.
        words: Packed pixels.
        index: (batch, size, support), the source row or column of each tap.
        weights: Whole weights of the taps, like `index`.
    """
    resize = partial(_resize_rows, channels)
    if axis == 0:
        return fusion_barrier(resize, words, index, weights)
    # A gather of whole rows is 10x faster than one of single words, which pays for two transposes.
    words = fusion_barrier(_transpose, words)
    words = fusion_barrier(resize, words, index, weights)
    return fusion_barrier(_transpose, words)


def _transpose(words: Array) -> Array:
    return jnp.swapaxes(words, 1, 2)


def _resize_rows(
    channels: int,
    words: Array,
    index: Array,
    weights: Array,
) -> Array:
    """Resize packed pixels (batch, height, width) along the rows, tap by tap."""
    batch, height, width = words.shape
    rows = words.reshape(-1, width)
    first = jnp.arange(batch, dtype=jnp.int32)[:, None] * height
    size = (batch, index.shape[1], width)
    totals = [jnp.zeros(size, jnp.float32)] * channels
    for k in range(index.shape[2]):
        # (batch, size, width)
        found = rows.at[first + index[:, :, k]].get(mode="promise_in_bounds")
        weight = weights[:, :, k, None]
        for c in range(channels):
            totals[c] = totals[c] + weight * packed.channel(found, c)
    return packed.rounded([_whole_mean(total) for total in totals])


def _whole_mean(total: Array) -> Array:
    """The mean of a sum with whole weights, rounded half up and clipped to the range of bytes."""
    mean = jnp.floor(total * 2.0**-FRACTION_BITS + 0.5)
    return jnp.clip(mean, 0, 255)


def _whole_weights(weights: Array) -> Array:
    """Weights (size, support) times 2^FRACTION_BITS: whole numbers with the exact sum."""
    units = jnp.round(weights * 2.0**FRACTION_BITS)
    # What rounding has added to the sum is taken from the largest weight, so that a flat image
    # stays flat.
    excess = units.sum(1, keepdims=True) - 2.0**FRACTION_BITS
    taps = jnp.arange(units.shape[1], dtype=jnp.int32)[None, :]
    is_largest = taps == jnp.argmax(units, 1, keepdims=True).astype(jnp.int32)
    return materialize(jnp.where(is_largest, units - excess, units))


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


def _dense_products(
    index: Array,
    weights: Array,
    levels: Array,
    axis: int,
) -> Array:
    """The weighted sums of a batch, as matrix products."""
    product = partial(_dense_product, axis=axis)
    return jax.vmap(product)(index, weights, levels)


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

    def take(index: Array) -> Array:
        pixels = levels.at[index] if axis == 0 else levels.at[:, index]
        return pixels.get(mode="promise_in_bounds")

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
    # Indices outside of the image have weight 0, so it does not matter that they are clipped.
    index = jnp.clip(index, 0, length - 1)
    return materialize((index, weights))
