"""Noise: augmentations that draw a random number for each pixel; alpha is kept."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn.augment import random
from fnn.augment.intensity import from_float, is_float, keep_alpha, max_level, to_float
from fnn.augment.ops import Ops, PixelOp
from fnn.augment.policy import Drawn, Policy
from fnn.augment.random import expect_magnitude
from fnn.types import Image, ImageShape, Magnitude, RandomKey
from fnn.values import maker
from fnn.xla import rounded_product

Change = Callable[[Image, RandomKey, Array], Image]  # (image, key, magnitude) -> image


@maker
def gaussian_noise(deviation: Magnitude) -> Policy:
    """Add Gaussian noise N(0, deviation²) to each channel of each pixel.

    The result is clipped to the range of levels; bytes are rounded. A fourth channel, alpha, is
    kept.

    Args:
        deviation: Standard deviation as a share of the range of levels, >= 0. A number is used as
            it is; from a pair (low, high) it is drawn uniformly for each image.

    Raises:
        ConfigError: `deviation` is negative.
    """
    expect_magnitude("gaussian_noise deviation", deviation, "[0, inf)")

    def change(
        image: Image,
        key: RandomKey,
        deviation: Array,
    ) -> Image:
        x = to_float(image)
        normal = jax.random.normal(key, image.shape, x.dtype)
        noise = rounded_product(normal, deviation.astype(x.dtype) * max_level(image))
        # Bytes are rounded down afterwards, so half a level rounds to the nearest.
        rounding = 0 if is_float(image) else 0.5
        return from_float(x + noise + rounding, image)

    return _noise(change, "deviation", deviation)


@maker
def salt_and_pepper(probability: Magnitude) -> Policy:
    """Make random pixels white or black, with equal probability, in all channels but alpha.

    Args:
        probability: Share of the pixels that are changed, in [0, 1]. A number is used as it is;
            from a pair (low, high) it is drawn uniformly for each image.

    Raises:
        ConfigError: `probability` is outside of [0, 1].
    """
    expect_magnitude("salt_and_pepper probability", probability, "[0, 1]")

    def change(
        image: Image,
        key: RandomKey,
        probability: Array,
    ) -> Image:
        # One number for all channels of a pixel, (height, width, 1).
        number = jax.random.uniform(key, (*image.shape[:2], 1), jnp.float32)
        half = probability / 2
        white = jnp.full((), max_level(image), jnp.float32).astype(image.dtype)
        is_black = number < half
        black = jnp.zeros_like(white)
        is_white = number < 2 * half
        salted = jnp.where(is_white, white, image)
        return jnp.where(is_black, black, salted)

    return _noise(change, "probability", probability)


def _noise(
    change: Change,
    name: str,
    magnitude: Magnitude,
) -> Policy:
    """Make the policy of a change that needs a key and one magnitude."""

    # One word for the magnitude, two for the key.
    def read(words: Array, shape: ImageShape) -> Drawn:
        return {name: random.sample_magnitude(words[0], magnitude), "key": words[1:]}

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        bound = partial(_apply, change, drawn["key"], drawn[name])
        return (PixelOp(keep_alpha(bound)),)

    return Policy(3, read, lower)


def _apply(
    change: Change,
    words: Array,
    magnitude: Array,
    image: Image,
) -> Image:
    return change(image, random.key_from_words(words), magnitude)
