"""General warps: the nearest pixel, or the bilinear mean of four, at any source coordinate."""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from fnn.augment.intensity import to_float
from fnn.augment.ops import GeometricOp, Size
from fnn.augment.resample import packed
from fnn.augment.resample.borders import border_index, is_inside
from fnn.types import Image
from fnn.xla import from_batched, fusion_barrier, materialize, on_cpu_else, rounded, rounded_product

# (rows, columns) -> the pixels at these whole coordinates
Tap = Callable[[Array, Array], Array]
# The weighted mean of the pixels above left, above right, below left and below right.
Mean = Callable[[Array, Array, Array, Array], Array]


class _Options(NamedTuple):
    """The static options of a warp."""

    size: Size
    projective: bool
    nearest: bool
    mode: str


def warp(
    image: Image,
    op: GeometricOp,
    fill: Array,
) -> Image:
    """Apply a geometric op without antialiasing: (height, width, channels) -> (*size, channels).

    An integral op, or the method "nearest", takes the nearest pixel. "bilinear" gives
    (1 - v)(1 - u) a + (1 - v) u b + v (1 - u) c + v u d of the four pixels around a coordinate, as
    torch.nn.functional.grid_sample(align_corners=False) does. Bytes are rounded, after a mean whose
    weights are multiples of 2⁻¹⁶.
    """
    nearest = op.integral or op.method == "nearest"
    options = _Options(op.size, op.projective, nearest, op.mode)
    # A missing field is a missing argument, since None could not be mapped.
    field = () if op.field is None else (op.field,)
    batched = partial(_warp_batch, options, op.integral)
    return from_batched(batched)(image, op.matrix, fill, *field)


def _warp_batch(
    options: _Options,
    integral: bool,
    images: Array,
    *arrays: Array,
) -> Array:
    """Warp images (batch, height, width, channels), as packed words where this is faster."""
    channels = images.shape[-1]
    if images.dtype != jnp.uint8 or channels > packed.MAX_CHANNELS:
        return _sample(options, images, *arrays)
    if not integral:
        return _sample_words(options, images, *arrays)
    # Without packing, an integral warp fuses with the ops that follow it. On CPU, loops over words
    # of one size are worth the extra pass.
    as_words = partial(_sample_words, options)
    as_bytes = partial(_sample, options)
    return on_cpu_else(as_words, as_bytes)(images, *arrays)


def source_coordinates(
    size: Size,
    projective: bool,
    matrices: Array,
    *fields: Array,
) -> tuple[Array, Array]:
    """Rows and columns (batch, *size) in the old images of the pixels of the new images."""
    height, width = size
    rows = jnp.arange(height, dtype=jnp.float32)[None, None]
    columns = jnp.arange(width, dtype=jnp.float32)[None, None]
    # (batch, 3, height) and (batch, 3, width): one number for each row and each column, so that a
    # pixel takes one sum, whose rounding does not depend on the program.
    of_rows = rounded_product(matrices[:, :, :1], rows) + matrices[:, :, 2:]
    of_columns = rounded_product(matrices[:, :, 1:2], columns)
    of_rows, of_columns = materialize((of_rows, of_columns))

    def component(i: int) -> Array:
        return of_rows[:, i, :, None] + of_columns[:, i, None, :]  # (batch, height, width)

    *coordinates, scale = map(component, range(3))
    # Without perspective the scale is 1, and the division is left out.
    if projective:
        coordinates = [coordinate / scale for coordinate in coordinates]
    source_rows, source_columns = coordinates
    for field in fields:
        source_rows = source_rows + field[..., 0]
        source_columns = source_columns + field[..., 1]
    return source_rows, source_columns


def _sample(
    options: _Options,
    images: Array,
    matrices: Array,
    fill: Array,
    *fields: Array,
) -> Array:
    """Warp images as they are."""
    rows, columns = source_coordinates(options.size, options.projective, matrices, *fields)
    tap = partial(_gather, images, fill, options.mode)
    if options.nearest:
        return _nearest(tap, rows, columns).astype(images.dtype)
    return _bilinear(tap, rows, columns, _mean_of_levels).astype(images.dtype)


def _sample_words(
    options: _Options,
    images: Array,
    matrices: Array,
    fill: Array,
    *fields: Array,
) -> Array:
    """Warp images of bytes as packed words, one per pixel."""
    rows, columns = source_coordinates(options.size, options.projective, matrices, *fields)
    channels = images.shape[-1]
    words = fusion_barrier(packed.packed, images)  # (batch, height, width)
    # One level for all channels: (batch,) -> (batch, channels).
    fills = jnp.broadcast_to(fill[:, None], (*fill.shape, channels))
    tap = partial(_gather, words, packed.packed(fills), options.mode)
    if options.nearest:
        sampled = _nearest(tap, rows, columns)
    else:
        sampled = _bilinear(tap, rows, columns, partial(_mean_of_words, channels))
    return fusion_barrier(partial(packed.unpacked, channels=channels), sampled)


def _gather(
    pixels: Array,
    fill: Array,
    mode: str,
    rows: Array,
    columns: Array,
) -> Array:
    """Take pixels (batch, height, width, ...) at whole coordinates (batch, *size)."""
    batch, height, width, *rest = pixels.shape
    number = jnp.arange(batch, dtype=jnp.int32)
    image = number[:, None, None] * (height * width)
    row = border_index(rows, height, mode) * width
    # Offsets into the flat pixels (batch * height * width, ...).
    index = image + row + border_index(columns, width, mode)
    flat = pixels.reshape(-1, *rest)
    found = flat.at[index].get(mode="promise_in_bounds")
    if mode != "constant":
        return found
    inside = is_inside(rows, height) & is_inside(columns, width)
    ones = (1,) * len(rest)
    # (batch, *size, 1) and (batch, 1, 1, 1) for pixels with a channel axis.
    inside = inside.reshape(*inside.shape, *ones)
    fill = fill.reshape(-1, 1, 1, *ones)
    return jnp.where(inside, found, fill)


def _nearest(
    tap: Tap,
    rows: Array,
    columns: Array,
) -> Array:
    rows = jnp.round(rows).astype(jnp.int32)
    columns = jnp.round(columns).astype(jnp.int32)
    return tap(rows, columns)


def _bilinear(
    tap: Tap,
    rows: Array,
    columns: Array,
    apply_mean: Callable[[Mean, list[Array]], Array],
) -> Array:
    above = jnp.floor(rows)
    left = jnp.floor(columns)
    # Fractions in [0, 1), the weights of the lower and of the right pixels.
    v = rows - above
    u = columns - left
    i = above.astype(jnp.int32)
    j = left.astype(jnp.int32)

    taps = []
    for down in (0, 1):
        for right in (0, 1):
            taps.append(tap(i + down, j + right))
    is_float = jnp.issubdtype(taps[0].dtype, jnp.floating)
    mean = partial(_mean_of_floats, v, u) if is_float else partial(_exact_mean, _weights(v, u))
    return apply_mean(mean, taps)


def _mean_of_floats(
    v: Array,
    u: Array,
    a: Array,
    b: Array,
    c: Array,
    d: Array,
) -> Array:
    row_weight = _over_channels(v.astype(a.dtype), a)
    column_weight = _over_channels(u.astype(a.dtype), a)
    upper = a + column_weight * (b - a)
    lower = c + column_weight * (d - c)
    return upper + row_weight * (lower - upper)


def _over_channels(weight: Array, pixels: Array) -> Array:
    """Add an axis of channels to weights (batch, *size), where pixels have one."""
    return weight.reshape(*weight.shape, *(1,) * (pixels.ndim - weight.ndim))


def _weights(v: Array, u: Array) -> list[Array]:
    """The weights of four pixels of bytes, multiples of 2⁻¹⁶ whose sum is exactly 1."""
    v = _quantize(v, 12)
    u = _quantize(u, 12)
    # The product has 24 bits, so that it is exact.
    both = _quantize(u * v, 16)
    return [1 - v - u + both, u - both, v - both, both]


def _quantize(fraction: Array, bits: int) -> Array:
    """Round a fraction in [0, 1] to a multiple of 2⁻ᵇⁱᵗˢ."""
    # A float32 has 24 bits, so that in [step, 2 step) this number of them is after the point.
    step = 2.0 ** (23 - bits)
    return rounded(fraction + step) - step


def _exact_mean(
    weights: Sequence[Array],
    *taps: Array,
) -> Array:
    """The weighted mean of levels of bytes.

    Products and sums are multiples of 2⁻¹⁶ below 256, which float32 holds exactly. So the order of
    the sum and its contraction to fused multiply-adds do not change a bit.
    """
    terms = []
    for weight, tap in zip(weights, taps, strict=True):
        terms.append(_over_channels(weight, tap) * tap)
    return functools.reduce(jnp.add, terms)


def _mean_of_words(
    channels: int,
    mean: Mean,
    taps: list[Array],
) -> Array:
    """The mean of packed pixels, channel by channel: all loops run over words of one size."""
    levels = []
    for k in range(channels):
        channel = [packed.channel(tap, k) for tap in taps]
        levels.append(mean(*channel))
    return packed.rounded(levels)


def _mean_of_levels(mean: Mean, taps: list[Array]) -> Array:
    floats = map(to_float, taps)
    levels = mean(*floats)
    if not jnp.issubdtype(taps[0].dtype, jnp.floating):
        return jnp.round(levels)
    return levels
