"""Any move: the pixel at each place, or the mean of the four around it."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from jax import Array

from fnn.augment.intensity import loose
from fnn.augment.ops import Move
from fnn.augment.resample import packed
from fnn.augment.resample.borders import inside, is_inside
from fnn.types import Image
from fnn.xla import from_batched, fusion_barrier, on_cpu_else

Tap = Callable[[Array, Array], Array]
Mean = Callable[[Array, Array, Array, Array], Array]


def warped(image: Image, move: Move, fill: Array) -> Image:
    """image (height, width, channels) at the places of a move -> (*size, channels); bytes are rounded.

    For a whole move or order "nearest" the nearest pixel, for "bilinear" (1 - v)(1 - u) a + (1 - v) u b + v (1 - u) c +
    v u d of the four around a place, as torch.nn.functional.grid_sample(align_corners=False) does it.
    """
    nearest = move.whole or move.order == "nearest"
    field = () if move.field is None else (move.field,)
    form = partial(_taken, move.size, move.projective, nearest, move.border)
    return from_batched(partial(_warp, form, move.whole))(image, move.matrix, fill, *field)


def _warp(form: Callable[..., Array], whole: bool, images: Array, *arrays: Array) -> Array:
    if images.dtype != jnp.uint8 or images.shape[-1] > packed.ROOM:
        return form(False, images, *arrays)
    if not whole:
        return form(True, images, *arrays)
    # A flip or a window is one pass with what follows it, if it is not packed before and unpacked after; on CPU loops
    # over words of one size are worth that.
    return on_cpu_else(partial(form, True), partial(form, False))(images, *arrays)


def places(
    size: tuple[int, int], projective: bool, matrices: Array, *fields: Array
) -> tuple[Array, Array]:
    """The rows and columns (batch, *size) that the matrices (batch, 3, 3) send the new pixels' places to."""
    rows = jnp.arange(size[0], dtype=jnp.float32)[None, :, None]
    columns = jnp.arange(size[1], dtype=jnp.float32)[None, None, :]
    a = matrices[:, :, :, None, None]
    *ends, scale = (a[:, i, 0] * rows + a[:, i, 1] * columns + a[:, i, 2] for i in range(3))
    if projective:
        ends = [end / scale for end in ends]
    for field in fields:
        ends = [end + field[..., axis] for axis, end in enumerate(ends)]
    return ends[0], ends[1]


def _taken(
    size: tuple[int, int],
    projective: bool,
    nearest: bool,
    border: str,
    is_packed: bool,
    images: Array,
    matrices: Array,
    fill: Array,
    *fields: Array,
) -> Array:
    rows, columns = places(size, projective, matrices, *fields)
    channels = images.shape[-1]
    pixels = fusion_barrier(packed.packed, images) if is_packed else images
    tap = partial(
        _tap,
        pixels,
        packed.packed(jnp.broadcast_to(fill[:, None], (*fill.shape, channels)))
        if is_packed
        else fill,
        border,
    )
    if nearest:
        found = tap(jnp.round(rows).astype(jnp.int32), jnp.round(columns).astype(jnp.int32))
    else:
        found = _bilinear(
            tap, rows, columns, partial(_in_planes, channels) if is_packed else _in_floats
        )
    return (
        fusion_barrier(partial(packed.unpacked, channels=channels), found)
        if is_packed
        else found.astype(images.dtype)
    )


def _tap(pixels: Array, fill: Array, border: str, rows: Array, columns: Array) -> Array:
    """The pixels (batch, height, width, ...) at whole rows and columns (batch, *size) -> (batch, *size, ...)."""
    batch, height, width, *rest = pixels.shape
    image = jnp.arange(batch, dtype=jnp.int32)[:, None, None] * (height * width)
    index = image + inside(rows, height, border) * width + inside(columns, width, border)
    found = pixels.reshape(-1, *rest).at[index].get(mode="promise_in_bounds")
    if border != "constant":
        return found
    shown = is_inside(rows, height) & is_inside(columns, width)
    ones = (1,) * len(rest)
    return jnp.where(shown.reshape(*shown.shape, *ones), found, fill.reshape(-1, 1, 1, *ones))


def _bilinear(
    tap: Tap, rows: Array, columns: Array, mixed: Callable[[Mean, list[Array]], Array]
) -> Array:
    above, left = jnp.floor(rows), jnp.floor(columns)
    v, u = rows - above, columns - left
    i, j = above.astype(jnp.int32), left.astype(jnp.int32)

    def mean(a: Array, b: Array, c: Array, d: Array) -> Array:
        own_v, own_u = (
            w.astype(a.dtype).reshape(*w.shape, *(1,) * (a.ndim - w.ndim)) for w in (v, u)
        )
        upper, lower = a + own_u * (b - a), c + own_u * (d - c)
        return upper + own_v * (lower - upper)

    return mixed(mean, [tap(i + below, j + right) for below in (0, 1) for right in (0, 1)])


def _in_planes(channels: int, mean: Mean, taps: list[Array]) -> Array:
    """The mean of packed pixels, a channel at a time: so every loop is one over words of one size."""
    return packed.rounded(
        [mean(*(packed.channel(tap, k) for tap in taps)) for k in range(channels)]
    )


def _in_floats(mean: Mean, taps: list[Array]) -> Array:
    if not jnp.issubdtype(taps[0].dtype, jnp.floating):
        return jnp.round(mean(*map(loose, taps)))
    return mean(*map(loose, taps))
