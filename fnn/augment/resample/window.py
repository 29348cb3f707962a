"""Flips and windows on CPU: copies of contiguous rows instead of gathers of single pixels."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn.augment.ops import GeometricOp, Size
from fnn.types import Image
from fnn.xla import from_batched, fusion_barrier


def copy_window(
    image: Image,
    op: GeometricOp,
    fill: Array,
) -> Image:
    """Apply an integral op of known reach: (height, width, channels) -> (*size, channels).

    On CPU a gather by single pixels is slow. So the whole image is flipped, then padded by the
    reach, and the rows of the window are copied, each a contiguous run of bytes.
    """
    assert op.reach is not None
    matrix = op.matrix
    offsets = jnp.round(matrix[:2, 2]).astype(jnp.int32)
    # A factor of -1 on the diagonal is a flip along this axis.
    flip_rows = matrix[0, 0] < 0
    flip_columns = matrix[1, 1] < 0
    flipped = jnp.stack([flip_rows, flip_columns])
    batched = partial(_copy_windows, op.size, op.reach, op.mode)
    return from_batched(batched)(image, offsets, flipped, fill)


def _copy_windows(
    size: Size,
    reach: Size,
    mode: str,
    images: Array,
    offsets: Array,
    flipped: Array,
    fill: Array,
) -> Array:
    height, width, channels = images.shape[1:]
    starts_by_axis = []
    # Python numbers, no constant arrays: under vmap a choice would batch these, which custom_vmap
    # does not support.
    axes = zip((height, width), reach, offsets.T, flipped.T, strict=True)
    for length, padding, offset, flip in axes:
        # In the flipped image the window begins at the same distance from the other end.
        start = jnp.where(flip, length - 1 - offset, offset)
        starts_by_axis.append(start + padding)
    starts = jnp.stack(starts_by_axis, 1)  # (batch, 2)
    images = fusion_barrier(_flip, images, flipped)
    if reach != (0, 0):
        images = fusion_barrier(partial(_pad, reach, mode), images, fill)
    elif size == (height, width):
        return images  # the only window of this size
    # (batch, height, width * channels), so that a row is one run of numbers.
    rows = images.reshape(*images.shape[:2], -1)

    def cut(rows: Array, starts: Array) -> Array:
        shape = (size[0], size[1] * channels)
        slice_rows = jax.vmap(partial(jax.lax.dynamic_slice, slice_sizes=shape))
        top = starts[:, 0]
        left = starts[:, 1] * channels
        return slice_rows(rows, (top, left))

    window = fusion_barrier(cut, rows, starts)  # (batch, height, width * channels)
    return window.reshape(-1, *size, channels)


def _flip(images: Array, flipped: Array) -> Array:
    """Flip the rows and columns of images (batch, height, width, channels) by flags (batch, 2)."""
    for axis in (1, 2):
        flags = flipped[:, axis - 1, None, None, None]
        images = jnp.where(flags, jnp.flip(images, axis), images)
    return images


def _pad(
    reach: Size,
    mode: str,
    images: Array,
    fill: Array,
) -> Array:
    """Pad images (batch, height, width, channels) by `reach` on both sides of each axis."""
    above, left = reach
    if mode != "constant":
        padding = ((0, 0), (above, above), (left, left), (0, 0))
        return jnp.pad(images, padding, mode)
    batch, height, width, channels = images.shape
    new_height = height + 2 * above
    new_width = width + 2 * left
    # Copied as rows (batch, height, width * channels), each a contiguous run of bytes.
    shape = (batch, new_height, new_width * channels)
    filled = jnp.broadcast_to(fill[:, None, None], shape)
    rows = images.reshape(batch, height, -1)
    padded = jax.lax.dynamic_update_slice(filled, rows, (0, above, left * channels))
    return padded.reshape(batch, new_height, new_width, channels)
