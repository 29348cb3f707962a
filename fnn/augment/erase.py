"""Augmentations that erase parts of the image: Cutout, Random Erasing, GridMask."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.crops import draw_log_uniform, expect_pair
from fnn.augment.intensity import fill_level
from fnn.augment.ops import Ops, PixelOp
from fnn.augment.policy import Drawn, Policy
from fnn.augment.random import expect_magnitude
from fnn.types import Image, ImageShape, Magnitude, Number
from fnn.values import maker
from fnn.xla import materialize

ATTEMPTS = 10  # rectangles that are drawn before the image is left as it is, as in torchvision
NOISE = "noise"


@maker
def cutout(size: Number, *, fill: Number = 0.0) -> Policy:
    """Set a random square of each image to one value [DeVries & Taylor 2017, arXiv:1708.04552].

    The center is uniform over the image, so that the square may be cut off by the border.

    Args:
        size: Side of the square in pixels, >= 0; rounded down to a whole number. May be traced.
        fill: Level of the square, in [0, 1], also for images of bytes.

    Raises:
        ConfigError: `size` is negative, or `fill` is outside of [0, 1].
    """
    checks.number("cutout size", size, "[0, inf)")
    checks.number("cutout fill", fill, "[0, 1]")

    def read(words: Array, shape: ImageShape) -> Drawn:
        row = random.integers(words[0], shape[0])
        column = random.integers(words[1], shape[1])
        return {"row": row, "column": column}

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        height, width = shape[:2]
        # The side may be traced, because it only changes masks of a static shape.
        pixels = jnp.asarray(size).astype(jnp.int32)
        top = drawn["row"] - pixels // 2
        left = drawn["column"] - pixels // 2
        rows = _in_range(height, top, pixels)
        columns = _in_range(width, left, pixels)
        return (_erase(rows, columns, fill),)

    return Policy(2, read, lower)


def _in_range(
    length: int,
    begin: Array,
    count: Array,
) -> Array:
    """Return a mask (length,) of the indices begin, ..., begin + count - 1."""
    distance = jnp.arange(length, dtype=jnp.int32) - begin
    return (distance >= 0) & (distance < count)


def _erase(
    rows: Array,
    columns: Array,
    fill: Number,
) -> PixelOp:
    """Make the op that erases the pixels in both of two masks, (height,) and (width,)."""
    return PixelOp(partial(_fill_masked, rows, columns, fill), unbounded=True)


def _fill_masked(
    rows: Array,
    columns: Array,
    fill: Number,
    image: Image,
) -> Image:
    # Rows of (width * channels): XLA vectorizes loops over such long rows, but not over three
    # channels. The masks are written to memory, because a loop that compares indices for each
    # element is not vectorized either.
    columns = jnp.repeat(columns, image.shape[2])
    rows, columns = materialize((rows, columns))
    # (height, width * channels)
    erased = rows[:, None] & columns[None, :]
    flat = image.reshape(image.shape[0], -1)
    filled = jnp.where(erased, fill_level(fill, image.dtype), flat)
    return filled.reshape(image.shape)


@maker
def random_erasing(
    probability: Number = 0.5,
    *,
    area: tuple[Number, Number] = (0.02, 0.33),
    ratio: tuple[Number, Number] = (0.3, 3.3),
    fill: Number | str = 0.0,
) -> Policy:
    """Set a random rectangle of each image to one value or to noise, with a probability.

    Rectangles are drawn ten times, and the first that fits in the image is used. If none does, the
    image is left as it is [Zhong et al. 2020, arXiv:1708.04896; torchvision RandomErasing].

    Args:
        probability: In [0, 1].
        area: (low, high), between which the area of the rectangle is drawn uniformly, as a share of
            the area of the image, in (0, 1].
        ratio: (low, high) of height / width of the rectangle, > 0. Its logarithm is drawn
            uniformly.
        fill: Level of the rectangle, in [0, 1], also for images of bytes; or "noise" for a uniform
            level of each channel of each pixel.

    Raises:
        ConfigError: An option is out of range.
    """
    checks.number("random_erasing probability", probability, "[0, 1]")
    areas = expect_pair("random_erasing area", area, "(0, 1]")
    ratios = expect_pair("random_erasing ratio", ratio, "(0, inf)")
    is_noise = isinstance(fill, str) and fill == NOISE
    if not is_noise:
        checks.number("random_erasing fill", fill, "[0, 1]")

    def read(words: Array, shape: ImageShape) -> Drawn:
        # One attempt has the words of area, ratio, top and left.
        attempts = words[3:].reshape(ATTEMPTS, 4)
        # h w = pixels and h / w = ratio.
        image_pixels = shape[0] * shape[1]
        pixels = random.uniform(attempts[:, 0], *areas) * image_pixels
        height_by_width = draw_log_uniform(attempts[:, 1], ratios)
        heights = jnp.round(jnp.sqrt(pixels * height_by_width))
        widths = jnp.round(jnp.sqrt(pixels / height_by_width))
        # A rectangle of a full side does not fit, as in torchvision.
        fits = (heights < shape[0]) & (widths < shape[1])
        # The first True, and 0 if there is none.
        first = jnp.argmax(fits)
        height = heights[first].astype(jnp.int32)
        width = widths[first].astype(jnp.int32)
        # Top and left are uniform over all positions inside of the image.
        corner = []
        for axis, side in enumerate((height, width)):
            share = random.unit_uniform(attempts[first, 2 + axis])
            positions = (shape[axis] - side + 1).astype(jnp.float32)
            corner.append(jnp.floor(share * positions).astype(jnp.int32))
        erases = random.bernoulli(words[0], probability) & fits.any()
        return {
            "erases": erases,
            "top": corner[0],
            "left": corner[1],
            "height": height,
            "width": width,
            "key": words[1:3],
        }

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        rows = _in_range(shape[0], drawn["top"], drawn["height"])
        # Without rows nothing is erased.
        rows = rows & drawn["erases"]
        columns = _in_range(shape[1], drawn["left"], drawn["width"])
        if not isinstance(fill, str):
            return (_erase(rows, columns, fill),)
        # (height, width)
        erased = rows[:, None] & columns[None, :]
        change = partial(_fill_with_noise, drawn["key"], erased)
        return (PixelOp(change),)

    return Policy(3 + 4 * ATTEMPTS, read, lower)


def _fill_with_noise(
    words: Array,
    erased: Array,
    image: Image,
) -> Image:
    key = random.key_from_words(words)
    if image.dtype == jnp.uint8:
        noise = jax.random.bits(key, image.shape, jnp.uint8)
    else:
        noise = jax.random.uniform(key, image.shape, jnp.float32).astype(image.dtype)
    return jnp.where(erased[..., None], noise, image)


@maker
def grid_mask(
    unit: Magnitude = (0.3, 0.6),
    *,
    ratio: Number = 0.5,
    probability: Number = 1.0,
    fill: Number = 0.0,
) -> Policy:
    """Set squares on a regular grid to one value, with a probability [Chen et al. 2020].

    The grid has a random offset. The rotation of the paper (arXiv:2001.04086) is left out: for it,
    put a `rotate` before and its opposite after.

    Args:
        unit: Period of the grid as a share of the shorter side of the image, in (0, 1]. A number is
            used as it is; from a pair (low, high) it is drawn uniformly.
        ratio: Side of a square as a share of the period, in [0, 1].
        probability: In [0, 1].
        fill: Level of the squares, in [0, 1], also for images of bytes.

    Raises:
        ConfigError: An option is out of range.
    """
    expect_magnitude("grid_mask unit", unit, "(0, 1]")
    checks.number("grid_mask ratio", ratio, "[0, 1]")
    checks.number("grid_mask probability", probability, "[0, 1]")
    checks.number("grid_mask fill", fill, "[0, 1]")

    def read(words: Array, shape: ImageShape) -> Drawn:
        period = random.sample_magnitude(words[0], unit) * min(shape[:2])
        period = jnp.maximum(1, jnp.round(period))  # whole pixels
        # Row and column offset, whole pixels below the period.
        offsets = []
        for word in words[1:3]:
            share = random.unit_uniform(word)
            offsets.append(jnp.floor(share * period))
        return {
            "unit": period,
            "row": offsets[0],
            "column": offsets[1],
            "masks": random.bernoulli(words[3], probability),
        }

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        height, width = shape[:2]
        rows = _stripes(height, drawn["row"], drawn["unit"], ratio)
        columns = _stripes(width, drawn["column"], drawn["unit"], ratio)
        # Without rows nothing is erased.
        rows = rows & drawn["masks"]
        return (_erase(rows, columns, fill),)

    return Policy(4, read, lower)


def _stripes(
    length: int,
    offset: Array,
    period: Array,
    ratio: Number,
) -> Array:
    """Return a mask (length,) that is True in the first share `ratio` of each period."""
    position = jnp.arange(length, dtype=jnp.float32) + offset
    phase = position - period * jnp.floor(position / period)
    return phase < jnp.round(period * jnp.asarray(ratio, jnp.float32))
