"""Flips and windows: every pixel goes to a whole place, and neighbors stay neighbors."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn.augment.ops import Move
from fnn.types import Image
from fnn.xla import from_batched, fusion_barrier


def windowed(image: Image, move: Move, fill: Array) -> Image:
    """The image seen through a whole move of known reach; (height, width, channels) -> (*size, channels), for CPU.

    A gather by single pixels is slow there. So the image is flipped whole, padded by as much as the move may reach, and
    its rows are copied, each a contiguous run of bytes.
    """
    offsets = jnp.round(move.matrix[:2, 2]).astype(jnp.int32)
    flipped = jnp.stack([move.matrix[0, 0] < 0, move.matrix[1, 1] < 0])
    assert move.reach is not None
    return from_batched(partial(_windows, move.size, move.reach, move.border))(
        image, offsets, flipped, fill
    )


def _windows(
    size: tuple[int, int],
    reach: tuple[int, int],
    border: str,
    images: Array,
    offsets: Array,
    flipped: Array,
    fill: Array,
) -> Array:
    height, width, channels = images.shape[1:]
    # Of the flipped image the window begins as far from the other end.
    # No constant arrays: a choice under vmap would make them a batch, which custom_vmap does not take.
    columns = zip((height, width), reach, offsets.T, flipped.T, strict=True)
    starts = jnp.stack(
        [jnp.where(turned, n - 1 - own, own) + more for n, more, own, turned in columns], 1
    )
    images = fusion_barrier(_flip, images, flipped)
    if reach != (0, 0):
        images = fusion_barrier(partial(_pad, reach, border), images, fill)
    elif size == (height, width):
        return images  # the only window that there is
    rows = images.reshape(
        *images.shape[:2], -1
    )  # (batch, height, width * channels): a row is one run of numbers

    def cut(rows: Array, starts: Array) -> Array:
        show = jax.vmap(partial(jax.lax.dynamic_slice, slice_sizes=(size[0], size[1] * channels)))
        return show(rows, (starts[:, 0], starts[:, 1] * channels))

    return fusion_barrier(cut, rows, starts).reshape(-1, *size, channels)


def _flip(images: Array, flipped: Array) -> Array:
    for axis in (1, 2):
        images = jnp.where(flipped[:, axis - 1, None, None, None], jnp.flip(images, axis), images)
    return images


def _pad(reach: tuple[int, int], border: str, images: Array, fill: Array) -> Array:
    pads = ((0, 0), (reach[0],) * 2, (reach[1],) * 2, (0, 0))
    if border != "constant":
        return jnp.pad(images, pads, border)
    batch, height, width, channels = images.shape
    around = jnp.broadcast_to(
        fill[:, None, None], (batch, height + 2 * reach[0], (width + 2 * reach[1]) * channels)
    )
    rows = images.reshape(batch, height, -1)
    padded = jax.lax.dynamic_update_slice(around, rows, (0, reach[0], reach[1] * channels))
    return padded.reshape(batch, height + 2 * reach[0], width + 2 * reach[1], channels)
