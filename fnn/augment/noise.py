"""Random levels, pixel by pixel; a fourth channel, alpha, stays."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn.augment import random
from fnn.augment.intensity import is_float, loose, settled, top, with_alpha_kept
from fnn.augment.ops import Paint, Steps
from fnn.augment.policy import Drawn, Policy
from fnn.augment.random import expect_magnitude
from fnn.types import Image, ImageShape, Magnitude, RandomKey
from fnn.values import maker

Change = Callable[[Image, RandomKey, Array], Image]


@maker
def gaussian_noise(deviation: Magnitude) -> Policy:
    """x + N(0, deviation²) a number, the deviation as a part of the range; clipped, bytes rounded.

    A magnitude is one number, which is taken as it is, or a pair (low, high), between which it is drawn. ConfigError
    for a negative deviation.
    """
    expect_magnitude("gaussian_noise deviation", deviation, "[0, inf)")

    def change(image: Image, key: RandomKey, deviation: Array) -> Image:
        x = loose(image)
        noise = jax.random.normal(key, image.shape, x.dtype) * (
            deviation.astype(x.dtype) * top(image)
        )
        return settled(x + noise + (0 if is_float(image) else 0.5), image)

    return _noise(change, deviation=deviation)


@maker
def salt_and_pepper(probability: Magnitude) -> Policy:
    """This probability of the pixels becomes white or black, each as likely. ConfigError unless it is in [0, 1]."""
    expect_magnitude("salt_and_pepper probability", probability, "[0, 1]")

    def change(image: Image, key: RandomKey, probability: Array) -> Image:
        drawn = jax.random.uniform(key, (*image.shape[:2], 1), jnp.float32)
        half = probability / 2
        white = jnp.full((), top(image), jnp.float32).astype(image.dtype)
        return jnp.where(
            drawn < half, jnp.zeros_like(white), jnp.where(drawn < 2 * half, white, image)
        )

    return _noise(change, probability=probability)


def _noise(change: Change, **magnitude: Magnitude) -> Policy:
    ((name, own),) = magnitude.items()

    def read(words: Array, shape: ImageShape) -> Drawn:
        return {name: random.within(words[0], own), "key": words[1:]}

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        return (Paint(with_alpha_kept(partial(_drawn_for, change, drawn["key"], drawn[name]))),)

    return Policy(3, read, steps)


def _drawn_for(change: Change, words: Array, magnitude: Array, image: Image) -> Image:
    return change(image, random.own_key(words), magnitude)
