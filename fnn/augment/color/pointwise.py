"""Augmentations of the levels of each channel, such as brightness, contrast and equalization."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array

from fnn.augment import random
from fnn.augment.color.statistics import extremes, histogram, pillow_stretch
from fnn.augment.intensity import LEVELS, is_float, luma, to_float
from fnn.augment.ops import Ops, PointOp
from fnn.augment.policy import Drawn, Policy, simple_policy
from fnn.augment.random import expect_magnitude
from fnn.types import Image, ImageShape, Magnitude
from fnn.values import maker
from fnn.xla import rounded

# Levels. More than the error of a power in float32, less than its distance from whole numbers.
GAMMA_MARGIN = 2.0**-10


@maker
def brightness(factor: Magnitude) -> Policy:
    """Multiply each level by a factor, as Pillow's Brightness.

    The result is clipped, and bytes are rounded down.

    Args:
        factor: Factor >= 0: 0 gives a black image, 1 the image, more is brighter. A number is used
            as it is; from a pair (low, high) it is drawn uniformly.

    Raises:
        ConfigError: `factor` is negative.
    """
    expect_magnitude("brightness factor", factor, "[0, inf)")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        def change(
            x: Array,
            highest: float,
            statistics: Any,
        ) -> Array:
            return drawn["factor"].astype(x.dtype) * x

        return (PointOp(change),)

    return simple_policy(lower, factor=partial(random.sample_magnitude, magnitude=factor))


@maker
def contrast(factor: Magnitude) -> Policy:
    """Change the contrast: mean + factor (x - mean), with the mean gray of the image.

    As Pillow's Contrast, which rounds the mean of bytes; torchvision does not. The result is
    clipped, and bytes are rounded down.

    Args:
        factor: Factor >= 0: 0 gives a flat gray image, 1 the image, more is more contrast. A number
            is used as it is; from a pair (low, high) it is drawn uniformly.

    Raises:
        ConfigError: `factor` is negative.
    """
    expect_magnitude("contrast factor", factor, "[0, inf)")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        return (PointOp(partial(blend, drawn["factor"]), statistics=mean_gray),)

    return simple_policy(lower, factor=partial(random.sample_magnitude, magnitude=factor))


def blend(
    factor: Array,
    x: Array,
    highest: float,
    other: Array,
) -> Array:
    """Return other + factor (x - other): `other` for factor 0, `x` for factor 1."""
    other = jnp.broadcast_to(other, x.shape).astype(x.dtype)
    change = factor.astype(x.dtype) * (x - other)
    if highest > 1:
        # Bytes are rounded down afterwards, so every program must give the same number.
        change = rounded(change)
    return other + change


def mean_gray(image: Image, needed: Array | bool = True) -> Array:
    """Return the mean gray level of the image, rounded for bytes."""
    gray = luma(image) if image.shape[-1] == 3 else image[..., 0]
    if is_float(image):
        return to_float(gray).mean()
    return rounded_mean(gray)


def rounded_mean(levels: Array) -> Array:
    """Return the rounded mean of levels 0..255, float32."""
    # The sum of up to 2²² pixels is exact in int32, but not in float32.
    total = levels.astype(jnp.int32).sum(dtype=jnp.int32)
    # Round to nearest in whole numbers: (total + size / 2) // size.
    mean = (2 * total + levels.size) // (2 * levels.size)
    return mean.astype(jnp.float32)


@maker
def gamma(exponent: Magnitude) -> Policy:
    """Apply the power x^exponent to levels x in [0, 1].

    Args:
        exponent: Exponent > 0: above 1 is darker, below 1 is brighter. A number is used as it is;
            from a pair (low, high) it is drawn uniformly.

    Raises:
        ConfigError: `exponent` is not positive.
    """
    expect_magnitude("gamma exponent", exponent, "(0, inf)")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        def change(
            x: Array,
            highest: float,
            statistics: Any,
        ) -> Array:
            share = x * (1 / highest)
            # The gradient of x^g by g at 0 is 0, but log(0) in its formula would make it NaN.
            power = jnp.where(share > 0, share, 1) ** drawn["exponent"].astype(x.dtype)
            level = jnp.where(share > 0, highest * power, 0)
            if highest > 1:
                # Bytes are rounded down: a whole number must not be missed by a rounding error.
                level = rounded(level) + GAMMA_MARGIN
            return level

        # A power is expensive, so for bytes it is computed for the 256 levels only.
        return (PointOp(change, use_table=True),)

    return simple_policy(lower, exponent=partial(random.sample_magnitude, magnitude=exponent))


@maker
def invert() -> Policy:
    """Invert the levels: 1 - x, or 255 - x for bytes."""

    def change(
        x: Array,
        highest: float,
        statistics: Any,
    ) -> Array:
        return highest - x

    return _fixed_policy(PointOp(change))


@maker
def solarize(threshold: Magnitude) -> Policy:
    """Invert all levels at or above a threshold.

    Args:
        threshold: Level in [0, 1], also for images of bytes: 1 inverts only white, 0 inverts all. A
            number is used as it is; from a pair (low, high) it is drawn uniformly.

    Raises:
        ConfigError: `threshold` is outside of [0, 1].
    """
    expect_magnitude("solarize threshold", threshold, "[0, 1]")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        def change(
            x: Array,
            highest: float,
            statistics: Any,
        ) -> Array:
            limit = rounded(drawn["threshold"].astype(x.dtype) * highest)
            if highest > 1:
                # In float32, 128 / 255 times 255 may be slightly above 128, which is meant.
                limit = jnp.ceil(limit - 1e-3)
            return jnp.where(x >= limit, highest - x, x)

        return (PointOp(change),)

    return simple_policy(lower, threshold=partial(random.sample_magnitude, magnitude=threshold))


@maker
def posterize(bits: Magnitude) -> Policy:
    """Keep only the highest bits of each level; floats are reduced to 2^bits levels.

    Args:
        bits: Number of bits that are kept, in [0, 8]; rounded down to a whole number. A number is
            used as it is; from a pair (low, high) it is drawn uniformly.

    Raises:
        ConfigError: `bits` is outside of [0, 8].
    """
    expect_magnitude("posterize bits", bits, "[0, 8]")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        def change(
            x: Array,
            highest: float,
            statistics: Any,
        ) -> Array:
            # The number of levels that are left.
            bits = drawn["bits"].astype(jnp.int32)
            count = jnp.left_shift(1, bits).astype(x.dtype)
            if highest > 1:
                step = LEVELS / count
                return jnp.floor(x / step) * step
            # Level 1 would be one level too many.
            index = jnp.clip(jnp.floor(x * count), 0, count - 1)
            return index / count

        return (PointOp(change),)

    return simple_policy(lower, bits=partial(random.sample_magnitude, magnitude=bits))


@maker
def autocontrast() -> Policy:
    """Stretch each channel to the full range: (x - low) / (high - low), as Pillow's autocontrast.

    `low` and `high` are the lowest and the highest level of the channel. A channel of one level is
    kept. Bytes are the same as Pillow's, including its rounding errors.
    """

    def change(
        x: Array,
        highest: float,
        statistics: tuple[Array, Array],
    ) -> Array:
        low = _align(statistics[0], x)
        high = _align(statistics[1], x)
        if highest > 1:
            return jnp.where(high > low, pillow_stretch(x, low, high), x)
        stretched = (x - low) / jnp.where(high > low, high - low, 1)
        return jnp.where(high > low, stretched, x)

    return _fixed_policy(PointOp(change, use_table=True, statistics=extremes))


def _align(levels: Array, x: Array) -> Array:
    """Convert levels (channels,) to the dtype and rank of `x`: (1, ..., 1, channels)."""
    leading = (None,) * (x.ndim - 1)
    return levels.astype(x.dtype)[leading]


@maker
def equalize() -> Policy:
    """Equalize the histogram of each channel, as Pillow's equalize.

    lut[i] = (step // 2 + Σ_{j<i} n_j) // step with step = (Σ n - n_last) // 255, where n_j pixels
    have level j, and `last` is the highest level that occurs. A channel with step 0 is kept. Floats
    are equalized as the nearest bytes.
    """

    def change(
        x: Array,
        highest: float,
        table: Array,
    ) -> Array:
        # The table is (channels, 256).
        level = jnp.round(x * (255 / highest)).astype(jnp.int32)
        channel = jnp.arange(x.shape[-1], dtype=jnp.int32)
        channel = channel[(None,) * (x.ndim - 1)]
        return table[channel, level].astype(x.dtype) * (highest / 255)

    statistics = partial(histogram, then=_equalization_table)
    return _fixed_policy(PointOp(change, use_table=True, statistics=statistics))


def _equalization_table(counts: Array) -> Array:
    """Return the new levels (channels, 256) for a histogram (channels, 256)."""
    levels = jnp.arange(LEVELS, dtype=jnp.int32)[None]
    # The highest level that occurs, (channels, 1).
    last = jnp.where(counts > 0, levels, 0).max(-1, keepdims=True)
    pixels = counts.sum(-1, keepdims=True)
    step = (pixels - jnp.take_along_axis(counts, last, -1)) // 255
    # Pixels of lower levels.
    before = jnp.cumsum(counts, -1) - counts
    quotient = (step // 2 + before) // jnp.maximum(step, 1)
    spread = jnp.minimum(quotient, 255)
    return jnp.where(step > 0, spread, levels)


def _fixed_policy(op: PointOp) -> Policy:
    """Make the policy of an op without random parameters."""
    return Policy(0, lambda words, shape: {}, lambda drawn, shape: (op,))
