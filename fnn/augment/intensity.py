"""Intensity levels of pixels: conversion of bytes and floats, and execution of point ops."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.augment.ops import PointOp
from fnn.augment.resample import packed
from fnn.types import Image, Number
from fnn.xla import from_batched, fused_alone, fusion_barrier, on_cpu_else

LEVELS = 256


def max_level(image: Image) -> float:
    """The highest level: 255 of bytes, 1 of floats."""
    if image.dtype == jnp.uint8:
        return 255.0
    return 1.0


def to_float(image: Image) -> Array:
    """Levels in [0, max_level] as floats: float64 stays, all other dtypes become float32."""
    if is_float(image) and image.dtype.itemsize > 4:
        return image
    return image.astype(jnp.float32)


def from_float(levels: Array, image: Image) -> Image:
    """Levels as an image of the dtype of `image`; bytes are rounded down."""
    # The conversion rounds down, since no level is negative.
    return jnp.clip(levels, 0, max_level(image)).astype(image.dtype)


def is_float(image: Image) -> bool:
    return jnp.issubdtype(image.dtype, jnp.floating)


def to_bytes(image: Image) -> Image:
    """Floats in [0, 1] as the nearest bytes; bytes are returned as they are."""
    if not is_float(image):
        return image
    levels = jnp.clip(image, 0, 1) * 255
    return jnp.round(levels).astype(jnp.uint8)


def fill_level(fraction: Number, dtype: jnp.dtype) -> Array:
    """A share of the whole range as a level of this dtype; bytes are rounded to the nearest."""
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.asarray(fraction).astype(dtype)
    level = jnp.asarray(fraction, jnp.float32) * (LEVELS - 1)
    return jnp.round(level).astype(dtype)


def clip_levels(levels: Array, highest: float) -> Array:
    """Clip levels to [0, highest], and round those of bytes down, as Pillow and torchvision do."""
    clipped = jnp.clip(levels, 0, highest)
    if highest > 1:
        return jnp.floor(clipped)
    return clipped


def apply_point_ops(image: Image, ops: Sequence[PointOp]) -> Image:
    """Apply point ops in sequence, in one pass over the pixels; a fourth channel, alpha, is kept.

    Statistics are computed for the first op only, of the image before all ops.
    """
    colors = image[..., :3]
    alpha = image[..., 3:]
    compute = ops[0].statistics
    statistics = None if compute is None else compute(colors, True)
    # A table does not pay off for a single cheap op, such as a factor.
    use_table = any(op.use_table for op in ops)
    if use_table and not is_float(image):
        # The changes are computed once per level, then looked up for each pixel.
        ramp = jnp.arange(LEVELS, dtype=jnp.float32)[:, None]
        levels = jnp.broadcast_to(ramp, (LEVELS, colors.shape[-1]))  # (256, channels)
        table = _change_levels(levels, image, statistics, ops)
        changed = look_up(colors, table)
    else:
        changed = _change_levels(to_float(colors), image, statistics, ops)
    if not alpha.size:
        return changed
    return jnp.concatenate([changed, alpha], -1)


def _change_levels(
    levels: Array,
    image: Image,
    statistics: Any,
    ops: Sequence[PointOp],
) -> Array:
    """Apply the changes to levels, and convert them to the dtype of the image."""
    highest = max_level(image)
    for op in ops[:-1]:
        levels = op.change(levels, highest, statistics)
        # After each op, because bytes are rounded down after each operation in Pillow too.
        levels = clip_levels(levels, highest)
    return from_float(ops[-1].change(levels, highest, statistics), image)


def _look_up(images: Array, tables: Array) -> Array:
    """Map images (batch, height, width, channels) of bytes by tables (batch, 256, channels)."""
    # Without the barrier, XLA would fuse the tables into the loop and compute them at every pixel.
    tables = jax.lax.optimization_barrier(tables)
    return fusion_barrier(_gather_levels, images, tables)


def _gather_levels(images: Array, tables: Array) -> Array:
    batch = images.shape[0]
    channels = images.shape[-1]
    flat = images.reshape(batch, -1).astype(jnp.int32)  # (batch, height * width * channels)
    # One gather from the flat tables (batch * 256 * channels): offset of the image, of the level,
    # and of the channel.
    channel = jnp.arange(flat.shape[1], dtype=jnp.int32) % channels
    table = jnp.arange(batch, dtype=jnp.int32) * (LEVELS * channels)
    index = table[:, None] + flat * channels + channel[None]
    entries = tables.reshape(-1)
    found = entries.at[index].get(mode="promise_in_bounds")
    return found.reshape(images.shape)


# Images of a batch are mapped together, by one gather.
look_up = from_batched(_look_up)


GRAY = (0.299, 0.587, 0.114)  # weights of red, green and blue, ITU-R BT.601


def luma(levels: Array) -> Array:
    """Gray levels (height, width) of RGB levels (height, width, 3).

    Bytes give int32, rounded as in Pillow's conversion to mode "L".
    """
    channels = [levels[..., k] for k in range(3)]
    if is_float(levels):
        gray = jnp.zeros_like(channels[0])
        for weight, channel in zip(GRAY, channels, strict=True):
            gray = gray + weight * channel
        return gray
    r, g, b = (channel.astype(jnp.int32) for channel in channels)
    # The weights in units of 2⁻¹⁶, and a half to round: Pillow's integer arithmetic.
    gray = 19595 * r
    gray = gray + 38470 * g
    gray = gray + 7471 * b
    return gray + 32768 >> 16


def luma_of_bytes(channels: Sequence[Array]) -> Array:
    """Gray levels of red, green and blue in [0, 255], whole numbers as float32, as `luma`."""
    r, g, b = channels
    # The sums are whole numbers below 2²⁴, which float32 holds exactly.
    total = 19595 * r + 38470 * g + 7471 * b + 32768
    return jnp.floor(total * 2.0**-16)


def map_rgb(
    colors: Callable[..., Sequence[Array]],
    image: Image,
    *arrays: Array,
) -> Image:
    """The image with the channels colors(channels, *arrays); bytes are rounded to the nearest.

    Args:
        colors: ([red, green, blue], *arrays) -> the new three channels, levels in [0, max_level].
        image: (height, width, 3).
        arrays: Further arguments of `colors`. Everything traced must be an argument.
    """

    def change(image: Image, *arrays: Array) -> Sequence[Array]:
        channels = [to_float(image[..., k]) for k in range(3)]
        return colors(channels, *arrays)

    def by_channels(image: Image, *arrays: Array) -> Image:
        levels = change(image, *arrays)
        channels = []
        for level in levels:
            if not is_float(image):
                level = jnp.round(level)
            channels.append(level.astype(image.dtype))
        return jnp.stack(channels, -1)

    def by_words(image: Image, *arrays: Array) -> Image:
        # A loop over words computes the three bytes of a pixel together. A loop over bytes would
        # compute all three channels for each byte.
        pack = fused_alone(lambda *arguments: packed.rounded(change(*arguments)))
        unpack = fused_alone(partial(packed.unpacked, channels=3))
        return unpack(pack(image, *arrays))

    if is_float(image):
        return by_channels(image, *arrays)
    return on_cpu_else(by_words, by_channels)(image, *arrays)


def keep_alpha(change: Callable[[Image], Image]) -> Callable[[Image], Image]:
    """Extend a change of images without alpha to images with a fourth channel, which is kept."""

    def changed(image: Image) -> Image:
        if image.shape[-1] != 4:
            return change(image)
        colors = change(image[..., :3])
        alpha = image[..., 3:]
        return jnp.concatenate([colors, alpha], -1)

    return changed


def rgb_only(
    change: Callable[[Image], Image],
    *,
    gray: bool = False,
) -> Callable[[Image], Image]:
    """Extend a change of RGB images to images of any channels: alpha is kept.

    Args:
        change: (image) -> image, of three channels.
        gray: Change images of one channel as three equal channels. If False, such images are
            returned as they are.
    """

    def changed(image: Image) -> Image:
        channels = image.shape[-1]
        if channels == 1 and gray:
            repeated = jnp.repeat(image, 3, -1)
            return change(repeated)[..., :1]
        if channels in (3, 4):
            return keep_alpha(change)(image)
        return image

    return changed
