"""New levels, channel by channel: brightness, contrast, gamma, solarize, posterize, invert, autocontrast, equalize."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array

from fnn.augment import random
from fnn.augment.color.statistics import extremes, histogram, pillows_rounding
from fnn.augment.intensity import is_float, loose, luma
from fnn.augment.ops import Recolor, Steps
from fnn.augment.policy import Drawn, Policy, simple
from fnn.augment.random import expect_magnitude
from fnn.types import Image, ImageShape, Magnitude
from fnn.values import maker


@maker
def brightness(factor: Magnitude) -> Policy:
    """Each level times the factor: 0 is black, 1 the image; clipped, and bytes cut to whole numbers, as in Pillow.

    A magnitude is one number, which is taken as it is, or a pair (low, high), between which it is drawn. ConfigError
    for a negative factor.
    """
    expect_magnitude("brightness factor", factor, "[0, inf)")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        return (Recolor(lambda x, top, seen: drawn["factor"].astype(x.dtype) * x),)

    return simple(steps, factor=partial(random.within, magnitude=factor))


@maker
def contrast(factor: Magnitude) -> Policy:
    """mean + factor (x - mean), with the mean gray of the image, which for bytes is rounded: 0 is gray, 1 the image.

    ConfigError for a negative factor. As in Pillow; torchvision does not round the mean.
    """
    expect_magnitude("contrast factor", factor, "[0, inf)")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        return (Recolor(partial(blended, drawn["factor"]), look=mean_gray),)

    return simple(steps, factor=partial(random.within, magnitude=factor))


def blended(factor: Array, x: Array, highest: float, other: Array) -> Array:
    """other + factor (x - other): 0 is the other, 1 is x."""
    other = jnp.broadcast_to(other, x.shape).astype(x.dtype)
    return other + factor.astype(x.dtype) * (x - other)


def mean_gray(image: Image, needed: Array | bool = True) -> Array:
    gray = luma(image) if image.shape[-1] == 3 else image[..., 0]
    if is_float(image):
        return loose(gray).mean()
    return rounded_mean(gray)


def rounded_mean(levels: Array) -> Array:
    """The mean of whole levels 0..255, rounded, float32; of up to 2²² pixels exactly, as no float's sum would be."""
    total = levels.astype(jnp.int32).sum(dtype=jnp.int32)
    return ((2 * total + levels.size) // (2 * levels.size)).astype(jnp.float32)


@maker
def gamma(exponent: Magnitude) -> Policy:
    """top (x / top)^exponent: above 1 darker, below 1 lighter. ConfigError for an exponent that is not positive."""
    expect_magnitude("gamma exponent", exponent, "(0, inf)")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        def change(x: Array, highest: float, seen: Any) -> Array:
            part = x / highest
            # The slope of x^g by g at 0 is 0, which log(0) would make no number.
            return jnp.where(
                part > 0,
                highest * jnp.where(part > 0, part, 1) ** drawn["exponent"].astype(x.dtype),
                0,
            )

        return (Recolor(change, tabled=True),)

    return simple(steps, exponent=partial(random.within, magnitude=exponent))


@maker
def invert() -> Policy:
    """top - x: the negative."""
    return _recolor(Recolor(lambda x, highest, seen: highest - x))


@maker
def solarize(threshold: Magnitude) -> Policy:
    """Levels from the threshold on, a part of the range, are inverted: 1 leaves all below white, 0 inverts all.

    ConfigError unless it is in [0, 1].
    """
    expect_magnitude("solarize threshold", threshold, "[0, 1]")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        def change(x: Array, highest: float, seen: Any) -> Array:
            limit = drawn["threshold"].astype(x.dtype) * highest
            # 128 / 255 in float32 times 255 may lie a little above 128, which is meant.
            limit = jnp.ceil(limit - 1e-3) if highest > 1 else limit
            return jnp.where(x >= limit, highest - x, x)

        return (Recolor(change),)

    return simple(steps, threshold=partial(random.within, magnitude=threshold))


@maker
def posterize(bits: Magnitude) -> Policy:
    """Only so many of the highest bits of each byte are kept; floats are cut to as many levels.

    A magnitude that is drawn is cut to a whole number. ConfigError unless it is in [0, 8].
    """
    expect_magnitude("posterize bits", bits, "[0, 8]")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        def change(x: Array, highest: float, seen: Any) -> Array:
            count = jnp.exp2(jnp.floor(drawn["bits"])).astype(x.dtype)
            if highest > 1:
                step = 256 / count
                return jnp.floor(x / step) * step
            return jnp.clip(jnp.floor(x * count), 0, count - 1) / count

        return (Recolor(change),)

    return simple(steps, bits=partial(random.within, magnitude=bits))


@maker
def autocontrast() -> Policy:
    """(x - low) top / (high - low), by the lowest and the highest level of each channel; a flat channel stays.

    Bytes are cut to whole numbers as by Pillow, even where its quotient falls just below one.
    """

    def change(x: Array, highest: float, seen: tuple[Array, Array]) -> Array:
        low, high = (end.astype(x.dtype)[(None,) * (x.ndim - 1)] for end in seen)
        if highest > 1:
            return jnp.where(high > low, pillows_rounding(x, low, high), x)
        stretched = (x - low) / jnp.where(high > low, high - low, 1)
        return jnp.where(high > low, stretched, x)

    return _recolor(Recolor(change, tabled=True, look=extremes))


@maker
def equalize() -> Policy:
    """The levels of each channel spread so that each range of them holds about as many pixels.

    lut[i] = (step // 2 + Σ_{j<i} n_j) // step, with step = (Σ n - n_last) // 255, n_j pixels of level j, the last of
    them the highest level there is; a channel with step 0 stays. Floats are seen as the nearest bytes. As in Pillow.
    """

    def change(x: Array, highest: float, table: Array) -> Array:  # (channels, 256)
        level = jnp.round(x * (255 / highest)).astype(jnp.int32)
        channel = jnp.arange(x.shape[-1], dtype=jnp.int32)[(None,) * (x.ndim - 1)]
        return table[channel, level].astype(x.dtype) * (highest / 255)

    return _recolor(Recolor(change, tabled=True, look=partial(histogram, then=_equalizing)))


def _equalizing(counts: Array) -> Array:
    levels = jnp.arange(256, dtype=jnp.int32)[None]
    last = jnp.where(counts > 0, levels, 0).max(-1, keepdims=True)
    step = (counts.sum(-1, keepdims=True) - jnp.take_along_axis(counts, last, -1)) // 255
    before = jnp.cumsum(counts, -1) - counts
    spread = jnp.minimum((step // 2 + before) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, spread, levels)


def _recolor(step: Recolor) -> Policy:
    """The policy that draws nothing and does this."""
    return Policy(0, lambda words, shape: {}, lambda drawn, shape: (step,))
