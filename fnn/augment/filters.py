"""What looks at a pixel's neighbors: sharpness, blur, the blocks of JPEG, elastic waves."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.color.pointwise import blended
from fnn.augment.intensity import is_float, loose, settled, top, with_alpha_kept
from fnn.augment.ops import Move, Paint, Steps
from fnn.augment.policy import Drawn, Policy, simple
from fnn.augment.random import expect_magnitude
from fnn.augment.resample.borders import MODES
from fnn.errors import ShapeError
from fnn.types import Image, ImageShape, Magnitude, Number
from fnn.values import maker


@maker
def sharpness(factor: Magnitude) -> Policy:
    """smooth + factor (x - smooth): 0 is smoothed, 1 the image, 2 sharper.

    smooth is the mean with the eight neighbors of weight 1 and the pixel itself of weight 5, rounded for bytes; pixels
    at the edges stay, and so does alpha. A magnitude is one number, which is taken as it is, or a pair (low, high),
    between which it is drawn. ConfigError for a negative factor. As in Pillow.
    """
    expect_magnitude("sharpness factor", factor, "[0, inf)")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        return (Paint(with_alpha_kept(partial(_sharpened, factor=drawn["factor"])), late=True),)

    return simple(steps, factor=partial(random.within, magnitude=factor))


def _sharpened(image: Image, factor: Array) -> Image:
    height, width, channels = image.shape
    flat = image.reshape(
        height, -1
    )  # (height, width * channels): neighbors to the side lie `channels` apart
    padded, x = jnp.pad(flat, ((1, 1), (channels, channels))), loose(flat)
    shifts = [(i, j * channels) for i in range(3) for j in range(3)]
    around = [loose(padded[i : i + height, j : j + x.shape[1]]) for i, j in shifts]
    smooth = sum(around, 4 * x) / 13
    smooth = smooth if is_float(image) else jnp.floor(smooth + 0.5)
    row, column = jnp.arange(height)[:, None], jnp.arange(width * channels)[None] // channels
    inner = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
    blend = blended(factor, x, top(image), jnp.where(inner, smooth, x))
    return settled(blend, flat).reshape(image.shape)


@maker
def gaussian_blur(sigma: Magnitude, *, size: int = 7) -> Policy:
    """The mean weighted by exp(-d² / 2σ²), σ in pixels, over a window of `size` x `size`; edges are reflected.

    Bytes are rounded. A window of 6σ holds 0.997 of the weight along each axis. ConfigError for a σ that is not
    positive or an even size; ShapeError for an image not larger than half the window. As torchvision's gaussian_blur.
    """
    expect_magnitude("gaussian_blur sigma", sigma, "(0, inf)")
    size = checks.whole("gaussian_blur size", size)
    checks.choice("gaussian_blur size", size, [size | 1])

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        if size // 2 >= min(shape[:2]):
            raise ShapeError(
                "gaussian_blur",
                f"an image larger than {size // 2} pixels",
                shape,
                "take a smaller window",
            )
        return (Paint(partial(_blurred, sigma=drawn["sigma"], size=size), late=True),)

    return simple(steps, sigma=partial(random.within, magnitude=sigma))


def _blurred(image: Image, sigma: Array, size: int) -> Image:
    x = loose(image)
    distance = jnp.arange(size, dtype=x.dtype) - size // 2
    weights = jnp.exp(-0.5 * (distance / sigma.astype(x.dtype)) ** 2)
    weights = weights / weights.sum()
    for axis in (0, 1):
        pads = [(size // 2, size // 2) if own == axis else (0, 0) for own in range(3)]
        padded = jnp.pad(x, pads, "reflect")
        shown = [jax.lax.slice_in_dim(padded, k, k + x.shape[axis], axis=axis) for k in range(size)]
        x = sum((weights[k] * own for k, own in enumerate(shown)), jnp.zeros_like(x))
    return settled(x if is_float(image) else x + 0.5, image)


@maker(structure=("fill",))
def elastic(
    displacement: Magnitude,
    *,
    cells: int = 4,
    method: str = "bilinear",
    mode: str = "reflect",
    fill: Number = 0.0,
) -> Policy:
    """Every pixel displaced by a smooth field: N(0, displacement²) pixels at the knots of a coarse grid, cubic between.

    The grid has `cells` cells a side. ConfigError for a negative displacement or an option out of range [after Simard
    et al. 2003, whose field is smoothed noise; a coarse grid is as smooth at a small part of the work].
    """
    expect_magnitude("elastic displacement", displacement, "[0, inf)")
    checks.whole("elastic cells", cells)
    checks.choice("elastic method", method, ("bilinear", "nearest"))
    checks.choice("elastic mode", mode, MODES)
    checks.number("elastic fill", fill, "[0, 1]")

    def read(words: Array, shape: ImageShape) -> Drawn:
        knots = jax.random.normal(random.own_key(words[1:]), (cells + 3, cells + 3, 2), jnp.float32)
        return {"displacement": random.within(words[0], displacement), "knots": knots}

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        rows, columns = (_splines(n, cells) for n in shape[:2])
        knots = drawn["knots"] * drawn["displacement"]
        field = jnp.einsum(
            "ia,jb,abk->ijk", rows, columns, knots, precision=jax.lax.Precision.HIGHEST
        )
        still = jnp.eye(3, dtype=jnp.float32)
        return (Move(still, shape[:2], border=mode, fill=fill, order=method, field=field),)

    return Policy(3, read, steps)


def _splines(length: int, cells: int) -> Array:
    """The weights (length, cells + 3) of the knots at each pixel: uniform cubic B-splines of unit square sum."""
    place = (jnp.arange(length, dtype=jnp.float32) + 0.5) / length * cells + 1
    distance = jnp.abs(place[:, None] - jnp.arange(cells + 3, dtype=jnp.float32)[None, :])
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance) ** 3 / 6
    weights = jnp.where(distance < 1, near, jnp.where(distance < 2, far, 0))
    return weights / jnp.sqrt(
        (weights**2).sum(1, keepdims=True)
    )  # so that a displacement is what it is called


# The tables of ITU-T T.81, annex K.1, by rows of frequency.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


@maker
def jpeg(quality: Magnitude) -> Policy:
    """What JPEG leaves of an image: 8 x 8 blocks, their cosine coefficients rounded to multiples of a table's entries.

    Gray or three channels, color at half the resolution. quality 1..100 scales the tables as libjpeg does; the pixels
    are within a few levels of libjpeg's, which calculates in whole numbers. The rounding passes gradients on as if it
    were not. ConfigError unless it is in [1, 100]; ShapeError for other channels.
    """
    expect_magnitude("jpeg quality", quality, "[1, 100]")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        if shape[2] not in (1, 3):
            raise ShapeError("jpeg", "1 or 3 channels", shape, "leave alpha out")
        return (Paint(partial(_compressed, tables=_tables(drawn["quality"])), late=True),)

    return simple(steps, quality=partial(random.within, magnitude=quality))


def _tables(quality: Array) -> tuple[Array, Array]:
    """What the coefficients of light and of color are rounded to multiples of, (8, 8) each."""
    quality = jnp.floor(quality)
    scale = jnp.where(quality < 50, jnp.floor(5000 / quality), 200 - 2 * quality)
    light, color = (
        jnp.clip(jnp.floor((jnp.array(table, jnp.float32) * scale + 50) / 100), 1, 255)
        for table in (LUMINANCE, CHROMINANCE)
    )
    return light, color


def _compressed(image: Image, tables: tuple[Array, Array]) -> Image:
    height, width, channels = image.shape
    x = loose(image) * (255 / top(image))
    unit = 8 if channels == 1 else 16  # a block of color covers two blocks of gray a side
    x = jnp.pad(x, ((0, -height % unit), (0, -width % unit), (0, 0)), "edge")
    light, color = (table.astype(x.dtype) for table in tables)
    if channels == 1:
        restored = _quantized(x[..., 0], light)[..., None]
    else:
        y, cb, cr = _to_ycc(x)
        rough = [_doubled(_quantized(_halved(plane), color)) for plane in (cb, cr)]
        restored = _from_ycc(_quantized(y, light), *rough)
    restored = restored[:height, :width] / (255 / top(image))
    return settled(restored if is_float(image) else restored + 0.5, image)


def _quantized(plane: Array, table: Array) -> Array:
    """A plane (height, width) after its 8 x 8 blocks were rounded in frequency."""
    height, width = plane.shape
    k = jnp.arange(8, dtype=plane.dtype)
    cosines = (
        jnp.cos((2 * k[None] + 1) * k[:, None] * (math.pi / 16))
        * jnp.where(k > 0, 0.5, 8**-0.5)[:, None]
    )
    blocks = plane.reshape(height // 8, 8, width // 8, 8) - 128
    turn = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    coefficients = turn("ui,aibj,vj->aubv", cosines, blocks, cosines) / table[None, :, None, :]
    rounded = coefficients + jax.lax.stop_gradient(jnp.round(coefficients) - coefficients)
    blocks = turn("ui,aubv,vj->aibj", cosines, rounded * table[None, :, None, :], cosines)
    return jnp.clip(blocks + 128, 0, 255).reshape(height, width)


def _to_ycc(x: Array) -> tuple[Array, Array, Array]:
    r, g, b = x[..., 0], x[..., 1], x[..., 2]
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return y, (b - y) / 1.772 + 128, (r - y) / 1.402 + 128


def _from_ycc(y: Array, cb: Array, cr: Array) -> Array:
    r, b = y + 1.402 * (cr - 128), y + 1.772 * (cb - 128)
    return jnp.stack([r, (y - 0.299 * r - 0.114 * b) / 0.587, b], -1)


def _halved(plane: Array) -> Array:
    return plane.reshape(plane.shape[0] // 2, 2, plane.shape[1] // 2, 2).mean((1, 3))


def _doubled(plane: Array) -> Array:
    """Twice the size, each new pixel 3/4 of the nearest and 1/4 of the next one: libjpeg's triangle."""
    for axis in (0, 1):
        padded = jnp.pad(plane, [(1, 1) if own == axis else (0, 0) for own in (0, 1)], "edge")
        n = plane.shape[axis]
        before, after = (jax.lax.slice_in_dim(padded, k, k + n, axis=axis) for k in (0, 2))
        pair = jnp.stack([0.75 * plane + 0.25 * before, 0.75 * plane + 0.25 * after], axis + 1)
        plane = pair.reshape(
            [2 * n if own == axis else size for own, size in enumerate(plane.shape)]
        )
    return plane
