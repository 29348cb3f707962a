"""Parts of the image that are hidden."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.crops import span
from fnn.augment.intensity import top
from fnn.augment.ops import Paint, Steps
from fnn.augment.policy import Drawn, Policy
from fnn.augment.random import expect_magnitude
from fnn.types import Image, ImageShape, Magnitude, Number
from fnn.values import maker
from fnn.xla import materialize

TRIES = 10  # rectangles drawn before nothing is hidden, as in torchvision


@maker
def cutout(size: Number, *, fill: Number = 0.0) -> Policy:
    """A square of size x size pixels takes the level fill; its center is any pixel, so edges may cut it off.

    A fraction of a pixel does not count; fill is a part of the whole range. ConfigError for a negative size or a fill
    outside [0, 1] [DeVries & Taylor 2017, arXiv:1708.04552].
    """
    checks.number("cutout size", size, "[0, inf)")
    checks.number("cutout fill", fill, "[0, 1]")

    def read(words: Array, shape: ImageShape) -> Drawn:
        return {"row": random.below(words[0], shape[0]), "column": random.below(words[1], shape[1])}

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        pixels = jnp.asarray(size).astype(jnp.int32)
        corner = [drawn[name] - pixels // 2 for name in ("row", "column")]
        rows, columns = (
            _run(length, begin, pixels) for length, begin in zip(shape[:2], corner, strict=True)
        )
        return (_cover(rows, columns, fill),)

    return Policy(2, read, steps)


def _run(length: int, begin: Array, count: Array) -> Array:
    distance = jnp.arange(length, dtype=jnp.int32) - begin
    return (distance >= 0) & (distance < count)


def _cover(rows: Array, columns: Array, fill: Number) -> Paint:
    return Paint(partial(_covered, rows, columns, fill), unbounded=True)


def _covered(rows: Array, columns: Array, fill: Number, image: Image) -> Image:
    """The image with the level fill where both the row and the column are hidden."""
    # As (height, width * channels): a loop over so long a row is vectorized, one over three channels is not.
    # Worked out before, for a loop that compares places anew for every number is not vectorized either.
    rows, columns = materialize((rows, jnp.repeat(columns, image.shape[2])))
    hidden = rows[:, None] & columns[None, :]
    flat = image.reshape(image.shape[0], -1)
    return jnp.where(hidden, _level(fill, image), flat).reshape(image.shape)


def _level(fill: Number, image: Image) -> Array:
    level = jnp.asarray(fill, jnp.float32) * top(image)
    return (jnp.round(level) if top(image) > 1 else level).astype(image.dtype)


@maker
def random_erasing(
    probability: Number = 0.5,
    *,
    area: tuple[Number, Number] = (0.02, 0.33),
    ratio: tuple[Number, Number] = (0.3, 3.3),
    fill: Number | str = 0.0,
) -> Policy:
    """With this probability a rectangle of random area and ratio of height to width, at a random place, is hidden.

    The area is drawn as a part of the image's, log(ratio) between the logs of the two; of ten such rectangles the first
    that fits is taken, else none. fill is a level, a part of the whole range, or "noise": each number any level.
    ConfigError for an option out of range [Zhong et al. 2020, arXiv:1708.04896; torchvision RandomErasing].
    """
    checks.number("random_erasing probability", probability, "[0, 1]")
    areas = span("random_erasing area", area, "(0, 1]")
    ratios = span("random_erasing ratio", ratio, "(0, inf)")
    if fill != "noise" if isinstance(fill, str) else True:
        checks.number("random_erasing fill", fill, "[0, 1]")

    def read(words: Array, shape: ImageShape) -> Drawn:
        tries = words[3:].reshape(TRIES, 4)
        pixels = random.between(tries[:, 0], *areas) * (shape[0] * shape[1])
        tall = jnp.exp(
            random.between(tries[:, 1], *(jnp.log(jnp.asarray(r, jnp.float32)) for r in ratios))
        )
        sides = [jnp.round(jnp.sqrt(pixels * tall)), jnp.round(jnp.sqrt(pixels / tall))]
        fits = (sides[0] < shape[0]) & (sides[1] < shape[1])
        first = jnp.argmax(fits)
        height, width = (own[first].astype(jnp.int32) for own in sides)
        corner = [
            jnp.floor(
                random.unit(tries[first, 2 + axis]) * (shape[axis] - own + 1).astype(jnp.float32)
            ).astype(jnp.int32)
            for axis, own in enumerate((height, width))
        ]
        erases = random.happens(words[0], probability) & fits.any()
        places = {"top": corner[0], "left": corner[1], "height": height, "width": width}
        return {"erases": erases, **places, "key": words[1:3]}

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        rows = _run(shape[0], drawn["top"], drawn["height"]) & drawn["erases"]
        columns = _run(shape[1], drawn["left"], drawn["width"])
        if not isinstance(fill, str):
            return (_cover(rows, columns, fill),)
        return (Paint(partial(_scrambled, drawn["key"], rows[:, None] & columns[None, :])),)

    return Policy(3 + 4 * TRIES, read, steps)


def _scrambled(words: Array, hidden: Array, image: Image) -> Image:
    key = random.own_key(words)
    if image.dtype == jnp.uint8:
        noise = jax.random.bits(key, image.shape, jnp.uint8)
    else:
        noise = jax.random.uniform(key, image.shape, jnp.float32).astype(image.dtype)
    return jnp.where(hidden[..., None], noise, image)


@maker
def grid_mask(
    unit: Magnitude = (0.3, 0.6),
    *,
    ratio: Number = 0.5,
    probability: Number = 1.0,
    fill: Number = 0.0,
) -> Policy:
    """With this probability squares on a grid are hidden, at random offsets.

    Of each unit of the grid `ratio` of its side is hidden. unit is the grid's period as a part of the shorter
    side. ConfigError for an option out of range [Chen et al. 2020,
    arXiv:2001.04086, without its rotation: put a `rotate` before and its opposite after].
    """
    expect_magnitude("grid_mask unit", unit, "(0, 1]")
    checks.number("grid_mask ratio", ratio, "[0, 1]")
    checks.number("grid_mask probability", probability, "[0, 1]")
    checks.number("grid_mask fill", fill, "[0, 1]")

    def read(words: Array, shape: ImageShape) -> Drawn:
        side = jnp.maximum(1, jnp.round(random.within(words[0], unit) * min(shape[:2])))
        offsets = [jnp.floor(random.unit(word) * side) for word in words[1:3]]
        return {
            "unit": side,
            "row": offsets[0],
            "column": offsets[1],
            "masks": random.happens(words[3], probability),
        }

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        side = drawn["unit"]
        hidden = [
            _comb(n, drawn[name], side, ratio)
            for n, name in zip(shape[:2], ("row", "column"), strict=True)
        ]
        return (_cover(hidden[0] & drawn["masks"], hidden[1], fill),)

    return Policy(4, read, steps)


def _comb(length: int, offset: Array, side: Array, ratio: Number) -> Array:
    place = jnp.arange(length, dtype=jnp.float32) + offset
    return place - side * jnp.floor(place / side) < jnp.round(
        side * jnp.asarray(ratio, jnp.float32)
    )
