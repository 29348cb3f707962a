"""The levels of an image's pixels: bytes or floats, and a new level for each."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.augment.ops import Recolor
from fnn.augment.resample import packed
from fnn.types import Image
from fnn.xla import from_batched, fused_alone, fusion_barrier, on_cpu_else

LEVELS = 256


def top(image: Image) -> float:
    """The highest level: 255 of bytes, 1 of floats."""
    return 255.0 if image.dtype == jnp.uint8 else 1.0


def loose(image: Image) -> Array:
    """The levels as floats to calculate with, from 0 to top: float32, or what is wider."""
    return image if is_float(image) and image.dtype.itemsize > 4 else image.astype(jnp.float32)


def settled(levels: Array, image: Image) -> Image:
    """The levels as an image like this one."""
    return cut(levels, top(image)).astype(image.dtype)


def is_float(image: Image) -> bool:
    return jnp.issubdtype(image.dtype, jnp.floating)


def to_bytes(image: Image) -> Image:
    """Floats in [0, 1] as the nearest bytes; bytes as they are."""
    return jnp.round(jnp.clip(image, 0, 1) * 255).astype(jnp.uint8) if is_float(image) else image


def cut(levels: Array, highest: float) -> Array:
    """The levels clipped, and those of bytes cut to whole numbers, as Pillow and torchvision do."""
    clipped = jnp.clip(levels, 0, highest)
    return jnp.floor(clipped) if highest > 1 else clipped


def recolored(image: Image, recolors: Sequence[Recolor]) -> Image:
    """The image after these recolors in turn, in one pass over the pixels; a fourth channel, alpha, stays."""
    colors, alpha = image[..., :3], image[..., 3:]
    look = recolors[0].look
    seen = None if look is None else look(colors, True)
    if not is_float(image) and any(recolor.tabled for recolor in recolors):
        ramp = jnp.arange(LEVELS, dtype=jnp.float32)[:, None]
        table = _in_turn(
            jnp.broadcast_to(ramp, (LEVELS, colors.shape[-1])), top(image), seen, recolors
        )
        changed = looked_up(colors, table.astype(image.dtype))
    else:
        changed = _in_turn(loose(colors), top(image), seen, recolors).astype(image.dtype)
    return jnp.concatenate([changed, alpha], -1) if alpha.size else changed


def _in_turn(levels: Array, highest: float, seen: Any, recolors: Sequence[Recolor]) -> Array:
    for recolor in recolors:
        levels = cut(recolor.change(levels, highest, seen), highest)
    return levels


def _look_up(images: Array, tables: Array) -> Array:
    """images (batch, height, width, channels) of bytes through tables (batch, 256, channels)."""
    # Lest the tables be worked out for every pixel.
    return fusion_barrier(_taken, images, jax.lax.optimization_barrier(tables))


def _taken(images: Array, tables: Array) -> Array:
    batch, channels = images.shape[0], images.shape[-1]
    flat = images.reshape(batch, -1).astype(jnp.int32)
    channel = jnp.arange(flat.shape[1], dtype=jnp.int32) % channels
    table = jnp.arange(batch, dtype=jnp.int32) * (LEVELS * channels)
    index = table[:, None] + flat * channels + channel[None]
    return tables.reshape(-1).at[index].get(mode="promise_in_bounds").reshape(images.shape)


looked_up = from_batched(_look_up)


GRAY = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R 601


def luma(levels: Array) -> Array:
    """The gray (height, width) of levels (height, width, 3), as Pillow rounds it for bytes: L of its modes."""
    channels = [levels[..., k] for k in range(3)]
    if is_float(levels):
        return sum(
            (part * own for part, own in zip(GRAY, channels, strict=True)),
            jnp.zeros_like(channels[0]),
        )
    r, g, b = (channel.astype(jnp.int32) for channel in channels)
    return 19595 * r + 38470 * g + 7471 * b + 32768 >> 16


def painted(colors: Callable[..., Sequence[Array]], image: Image, *arrays: Array) -> Image:
    """The image whose three channels are colors(channels, *arrays), all levels from 0 to top; bytes are rounded."""

    def changed(image: Image, *arrays: Array) -> Sequence[Array]:
        return colors([loose(image[..., k]) for k in range(3)], *arrays)

    def at_once(image: Image, *arrays: Array) -> Image:
        found = changed(image, *arrays)
        return jnp.stack(
            [(x if is_float(image) else jnp.round(x)).astype(image.dtype) for x in found], -1
        )

    def by_words(image: Image, *arrays: Array) -> Image:
        # A loop over words makes all three bytes; one over bytes would work out three channels for each.
        found = fused_alone(lambda *own: packed.rounded(changed(*own)))(image, *arrays)
        return fused_alone(partial(packed.unpacked, channels=3))(found)

    return (
        at_once(image, *arrays)
        if is_float(image)
        else on_cpu_else(by_words, at_once)(image, *arrays)
    )


def with_alpha_kept(change: Callable[[Image], Image]) -> Callable[[Image], Image]:
    """The change of an image without alpha, for any: a fourth channel, alpha, stays."""

    def changed(image: Image) -> Image:
        if image.shape[-1] != 4:
            return change(image)
        return jnp.concatenate([change(image[..., :3]), image[..., 3:]], -1)

    return changed


def on_colors(change: Callable[[Image], Image], *, gray: bool = False) -> Callable[[Image], Image]:
    """The change of an image of three colors, for any: a fourth channel, alpha, stays.

    A single channel stays, too, or if `gray` is changed as if it were three equal ones.
    """

    def changed(image: Image) -> Image:
        if image.shape[-1] == 1 and gray:
            return change(jnp.repeat(image, 3, -1))[..., :1]
        return with_alpha_kept(change)(image) if image.shape[-1] in (3, 4) else image

    return changed
