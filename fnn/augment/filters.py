"""Filters, whose pixels depend on their neighbors: sharpness, blur, elastic warps, JPEG."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.color.pointwise import blend
from fnn.augment.intensity import from_float, is_float, keep_alpha, max_level, to_float
from fnn.augment.ops import GeometricOp, Ops, PixelOp
from fnn.augment.policy import Drawn, Policy, simple_policy
from fnn.augment.random import expect_magnitude
from fnn.augment.resample.borders import MODES
from fnn.errors import ShapeError
from fnn.types import Image, ImageShape, Magnitude, Number
from fnn.values import maker


@maker
def sharpness(factor: Magnitude) -> Policy:
    """Sharpen or smooth the image: smooth + factor (x - smooth), as Pillow's Sharpness.

    smooth is a mean over 3 x 3 pixels, with weight 5 of the pixel and weight 1 of its eight
    neighbors, rounded for bytes. Pixels at the border and alpha are kept.

    Args:
        factor: Factor >= 0: 0 gives the smooth image, 1 the image, more sharpens it. A number is
            used as it is; from a pair (low, high) it is drawn uniformly.

    Raises:
        ConfigError: `factor` is negative.
    """
    expect_magnitude("sharpness factor", factor, "[0, inf)")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        change = partial(_sharpen, factor=drawn["factor"])
        return (PixelOp(keep_alpha(change), spatial=True),)

    return simple_policy(lower, factor=partial(random.sample_magnitude, magnitude=factor))


def _sharpen(image: Image, factor: Array) -> Image:
    height, width, channels = image.shape
    # (height, width * channels): horizontal neighbors are `channels` elements apart.
    flat = image.reshape(height, -1)
    padded = jnp.pad(flat, ((1, 1), (channels, channels)))
    x = to_float(flat)
    windows = []
    for row in range(3):
        for column in range(3):
            begin = column * channels
            window = padded[row : row + height, begin : begin + x.shape[1]]
            windows.append(to_float(window))
    # The 3 x 3 windows have the pixel once, so 4 more make its weight 5 of 13.
    smooth = sum(windows, 4 * x) / 13
    if not is_float(image):
        smooth = jnp.floor(smooth + 0.5)  # to the nearest, as Pillow
    # Masks of (height, 1) and (1, width * channels).
    row_index = jnp.arange(height)[:, None]
    column_index = jnp.arange(width * channels)[None] // channels
    is_inner_row = (row_index > 0) & (row_index < height - 1)
    is_inner = is_inner_row & (column_index > 0) & (column_index < width - 1)
    smooth = jnp.where(is_inner, smooth, x)
    sharpened = blend(factor, x, max_level(image), smooth)
    result = from_float(sharpened, flat)
    # (height, width * channels) to (height, width, channels)
    return result.reshape(image.shape)


@maker
def gaussian_blur(sigma: Magnitude, *, size: int = 7) -> Policy:
    """Blur the image with a Gaussian kernel, as torchvision's gaussian_blur.

    The weights are exp(-d² / 2σ²) within a window of size x size pixels. The border is reflected.
    Bytes are rounded.

    Args:
        sigma: σ in pixels, > 0. A number is used as it is; from a pair (low, high) it is drawn
            uniformly.
        size: Side of the window in pixels, an odd whole number. A window of 6σ has 0.997 of the
            weight of the Gaussian along each axis.

    Raises:
        ConfigError: `sigma` is not positive, or `size` is even.
        ShapeError: A side of the image has at most size // 2 pixels, too few to reflect.
    """
    expect_magnitude("gaussian_blur sigma", sigma, "(0, inf)")
    size = checks.whole("gaussian_blur size", size)
    checks.choice("gaussian_blur size", size, [size | 1])

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        if size // 2 >= min(shape[:2]):
            expected = f"an image larger than {size // 2} pixels"
            raise ShapeError(
                "gaussian_blur",
                expected,
                shape,
                "take a smaller window",
            )
        change = partial(_blur, sigma=drawn["sigma"], size=size)
        return (PixelOp(change, spatial=True),)

    return simple_policy(lower, sigma=partial(random.sample_magnitude, magnitude=sigma))


# One program, also in eager mode: its products and sums are then contracted in the same way.
@partial(jax.jit, static_argnames="size")
def _blur(
    image: Image,
    sigma: Array,
    size: int,
) -> Image:
    x = to_float(image)
    radius = size // 2
    distance = jnp.arange(size, dtype=x.dtype) - radius
    deviations = distance / sigma.astype(x.dtype)
    weights = jnp.exp(-0.5 * deviations**2)
    weights = weights / weights.sum()
    # The Gaussian is separable: first along the rows, then along the columns.
    for axis in (0, 1):
        padding = [(0, 0)] * 3
        padding[axis] = (radius, radius)
        padded = jnp.pad(x, padding, "reflect")
        length = x.shape[axis]
        # The convolution is a weighted sum of shifted images.
        shifted = []
        for k in range(size):
            shifted.append(jax.lax.slice_in_dim(padded, k, k + length, axis=axis))
        total = jnp.zeros_like(x)
        for k in range(size):
            total = total + weights[k] * shifted[k]
        x = total
    if not is_float(image):
        x = x + 0.5  # bytes are rounded down afterwards
    return from_float(x, image)


@maker(structure=("fill",))
def elastic(
    displacement: Magnitude,
    *,
    cells: int = 4,
    method: str = "bilinear",
    mode: str = "reflect",
    fill: Number = 0.0,
) -> Policy:
    """Warp the image by a smooth random field of displacements [after Simard et al. 2003].

    The field is a cubic B-spline on a coarse grid, with coefficients of N(0, 1), scaled so that
    the displacement of every pixel along each axis is N(0, displacement²). The paper smooths noise
    of full resolution; a coarse grid is as smooth with less work.

    Args:
        displacement: Standard deviation of the displacement in pixels, >= 0. A number is used as
            it is; from a pair (low, high) it is drawn uniformly.
        cells: Number of cells of the grid along each axis, >= 1; fewer give a smoother field.
        method: Interpolation, "bilinear" or "nearest".
        mode: Padding outside of the image, a mode of `numpy.pad`: "constant", "edge", "reflect",
            "symmetric" or "wrap".
        fill: Level outside of the image for the mode "constant", in [0, 1], also for bytes.

    Raises:
        ConfigError: An option is out of range.
    """
    expect_magnitude("elastic displacement", displacement, "[0, inf)")
    checks.whole("elastic cells", cells)
    checks.choice("elastic method", method, ("bilinear", "nearest"))
    checks.choice("elastic mode", mode, MODES)
    checks.number("elastic fill", fill, "[0, 1]")

    def read(words: Array, shape: ImageShape) -> Drawn:
        key = random.key_from_words(words[1:])
        # A cubic spline over n cells has n + 3 coefficients along each axis.
        count = cells + 3
        knots = jax.random.normal(key, (count, count, 2), jnp.float32)
        deviation = random.sample_magnitude(words[0], displacement)
        return {"displacement": deviation, "knots": knots}

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        row_weights = _spline_weights(shape[0], cells)
        column_weights = _spline_weights(shape[1], cells)
        knots = drawn["knots"] * drawn["displacement"]
        # (height, knots), (width, knots), (knots, knots, 2) -> (height, width, 2)
        field = jnp.einsum(
            "ia,jb,abk->ijk",
            row_weights,
            column_weights,
            knots,
            precision=jax.lax.Precision.HIGHEST,
        )
        identity = jnp.eye(3, dtype=jnp.float32)
        op = GeometricOp(
            identity,
            shape[:2],
            mode=mode,
            fill=fill,
            method=method,
            field=field,
        )
        return (op,)

    return Policy(3, read, lower)


def _spline_weights(length: int, cells: int) -> Array:
    """Return the weights (length, cells + 3) of cubic B-splines at each pixel, of unit norm."""
    # Coordinates of the pixels in cells, where knot 1 is at the border of the image.
    pixels = jnp.arange(length, dtype=jnp.float32) + 0.5
    position = pixels / length * cells + 1
    position = position[:, None]
    knots = jnp.arange(cells + 3, dtype=jnp.float32)[None, :]
    distance = jnp.abs(position - knots)
    # The uniform cubic B-spline, which is 0 from a distance of 2 on.
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance) ** 3 / 6
    weights = jnp.where(distance < 1, near, jnp.where(distance < 2, far, 0))
    # The weighted sum of unit normal numbers has unit variance only if the weights have unit norm.
    return weights / jnp.sqrt((weights**2).sum(1, keepdims=True))


# Quantization tables of ITU-T T.81, annex K.1; rows are vertical frequencies.
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
BLOCK = 8  # pixels
HALF_MARGIN = 2.0**-10  # more than the rounding error of a cosine coefficient


@maker
def jpeg(quality: Magnitude) -> Policy:
    """Compress and decompress the image by JPEG [ITU-T T.81].

    The cosine coefficients of blocks of 8 x 8 pixels are rounded to multiples of the entries of a
    table; color has half the resolution. The result is within a few levels of libjpeg's, which
    computes with whole numbers. The gradient ignores the rounding.

    Args:
        quality: Quality in [1, 100] as in libjpeg, which scales the tables; rounded down to a whole
            number. A number is used as it is; from a pair (low, high) it is drawn uniformly.

    Raises:
        ConfigError: `quality` is outside of [1, 100].
        ShapeError: The image has neither one channel nor three.
    """
    expect_magnitude("jpeg quality", quality, "[1, 100]")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        if shape[2] not in (1, 3):
            raise ShapeError("jpeg", "1 or 3 channels", shape, "leave alpha out")
        tables = _quantization_tables(drawn["quality"])
        change = partial(_compress, tables=tables)
        return (PixelOp(change, spatial=True),)

    return simple_policy(lower, quality=partial(random.sample_magnitude, magnitude=quality))


def _quantization_tables(quality: Array) -> tuple[Array, Array]:
    """Return the tables (8, 8) of luminance and chrominance, as libjpeg scales them."""
    quality = jnp.floor(quality)
    is_low = quality < 50
    percent_of_low = jnp.floor(5000 / quality)
    percent_of_high = 200 - 2 * quality
    percent = jnp.where(is_low, percent_of_low, percent_of_high)
    tables = []
    for rows in (LUMINANCE, CHROMINANCE):
        table = jnp.array(rows, jnp.float32)
        # Half of a hundredth more, so that a whole quotient is not missed by a rounding error.
        scaled = jnp.floor((table * percent + 50.5) * 0.01)
        tables.append(jnp.clip(scaled, 1, 255))
    luminance, chrominance = tables
    return luminance, chrominance


# One program, also in eager mode, as `_blur`.
@jax.jit
def _compress(image: Image, tables: tuple[Array, Array]) -> Image:
    height, width, channels = image.shape
    # The tables are for levels in [0, 255].
    x = to_float(image) * (255 / max_level(image))
    # A block of color, which has half the resolution, covers two blocks of luminance a side.
    unit = BLOCK if channels == 1 else 2 * BLOCK
    # Whole blocks, padded below and on the right.
    padding = ((0, -height % unit), (0, -width % unit), (0, 0))
    x = jnp.pad(x, padding, "edge")
    luminance, chrominance = (table.astype(x.dtype) for table in tables)
    if channels == 1:
        restored = _quantize(x[..., 0], luminance)[..., None]
    else:
        y, cb, cr = _to_ycbcr(x)
        restored_cb = _double(_quantize(_halve(cb), chrominance))
        restored_cr = _double(_quantize(_halve(cr), chrominance))
        restored = _from_ycbcr(_quantize(y, luminance), restored_cb, restored_cr)
    restored = restored[:height, :width] / (255 / max_level(image))
    if not is_float(image):
        restored = restored + 0.5  # bytes are rounded down afterwards
    return from_float(restored, image)


def _quantize(plane: Array, table: Array) -> Array:
    """Round the cosine coefficients of the 8 x 8 blocks of a plane (height, width)."""
    height, width = plane.shape
    k = jnp.arange(BLOCK, dtype=plane.dtype)
    # The orthonormal discrete cosine transform, (frequency, pixel).
    odd = 2 * k[None] + 1
    waves = jnp.cos(odd * k[:, None] * (math.pi / 16))
    norms = jnp.where(k > 0, 0.5, 8**-0.5)
    cosines = waves * norms[:, None]
    # (block rows, pixel rows, block columns, pixel columns)
    blocks = plane.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK) - 128
    transform = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    # From pixels i, j to vertical and horizontal frequencies u, v of each block a, b.
    coefficients = transform("ui,aibj,vj->aubv", cosines, blocks, cosines)
    coefficients = coefficients / table[None, :, None, :]
    # The value is rounded, but the gradient is that of the coefficients.
    # Away from zero at a half, as libjpeg, also where rounding errors leave less than a half.
    whole = jnp.sign(coefficients) * jnp.floor(jnp.abs(coefficients) + (0.5 + HALF_MARGIN))
    whole = coefficients + jax.lax.stop_gradient(whole - coefficients)
    restored = whole * table[None, :, None, :]
    blocks = transform("ui,aubv,vj->aibj", cosines, restored, cosines)
    # JPEG transforms levels that are centered at 0.
    levels = jnp.clip(blocks + 128, 0, 255)
    return levels.reshape(height, width)


def _to_ycbcr(x: Array) -> tuple[Array, Array, Array]:
    """Convert RGB (height, width, 3) to luminance and two planes of chrominance, as JFIF."""
    r = x[..., 0]
    g = x[..., 1]
    b = x[..., 2]
    y = 0.299 * r + 0.587 * g + 0.114 * b
    cb = (b - y) / 1.772 + 128
    cr = (r - y) / 1.402 + 128
    return y, cb, cr


def _from_ycbcr(
    y: Array,
    cb: Array,
    cr: Array,
) -> Array:
    r = y + 1.402 * (cr - 128)
    b = y + 1.772 * (cb - 128)
    g = (y - 0.299 * r - 0.114 * b) / 0.587
    return jnp.stack([r, g, b], -1)


def _halve(plane: Array) -> Array:
    """Average 2 x 2 pixels."""
    height, width = plane.shape
    # (height / 2, 2, width / 2, 2)
    groups = plane.reshape(height // 2, 2, width // 2, 2)
    return groups.mean((1, 3))


def _double(plane: Array) -> Array:
    """Double the size with the triangle filter of libjpeg.

    A new pixel is 3/4 of the nearest pixel and 1/4 of the next one.
    """
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (1, 1)
        padded = jnp.pad(plane, padding, "edge")
        length = plane.shape[axis]
        before = jax.lax.slice_in_dim(padded, 0, length, axis=axis)
        after = jax.lax.slice_in_dim(padded, 2, 2 + length, axis=axis)
        first = 0.75 * plane + 0.25 * before
        second = 0.75 * plane + 0.25 * after
        # Interleave the two new pixels of each pixel along the axis.
        pairs = jnp.stack([first, second], axis + 1)
        size = list(plane.shape)
        size[axis] = 2 * length
        plane = pairs.reshape(size)
    return plane
