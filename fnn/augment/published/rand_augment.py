"""RandAugment and TrivialAugment: random operations of random or equal strength."""

import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.compose import one_of, some_of
from fnn.augment.policy import Policy
from fnn.augment.published.operations import Span, expect_sampling, operations
from fnn.types import Number
from fnn.values import maker

NAMES = [
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
]
LAST_BIN = 30  # strengths are counted in 31 bins, 0 to 30
WIDE = Span(shear=0.99, translate=lambda length: 32, degrees=135.0, enhance=0.99, bits=6)


@maker(structure=("fill",))
def rand_augment(
    *,
    count: int = 2,
    magnitude: Number = 9.0,
    mode: str = "fused",
    method: str = "nearest",
    fill: Number = 0.0,
) -> Policy:
    """RandAugment: `count` of 14 operations, drawn for each image, all at one magnitude.

    The operations are those of torchvision. At magnitude 30 they are: shear of tan 0.3, translation
    by 150 / 331 of the side, rotation by 30 degrees, factors of 1 ± 0.9 for brightness, color,
    contrast and sharpness, 4 bits less, solarize at threshold 0. Signs are random [Cubuk et al.
    2019, arXiv:1909.13719].

    Args:
        count: Number of operations, drawn with replacement, >= 1.
        magnitude: In [0, 30], for all operations. May be traced.
        mode: "fused" or "exact", see `one_of`. "fused" is faster; "exact" keeps the drawn order of
            the operations.
        method: Interpolation of geometric operations, "nearest" or "bilinear".
        fill: Level outside of the image, in [0, 1], also for bytes.

    Raises:
        ConfigError: An option is out of range.
    """
    checks.number("rand_augment magnitude", magnitude, f"[0, {LAST_BIN}]")
    sampling = expect_sampling("rand_augment", method, fill)

    # A number ignores the word: all operations have the same strength.
    def strength(word: Array) -> Array:
        # A factor, since some programs divide by a constant and some multiply by its inverse.
        return random.sample_magnitude(word, magnitude) * (1 / LAST_BIN)

    options = operations(NAMES, strength, Span(), sampling)
    return some_of(*options, count=count, mode=mode)


@maker(structure=("fill",))
def trivial_augment(
    *,
    mode: str = "fused",
    method: str = "nearest",
    fill: Number = 0.0,
) -> Policy:
    """TrivialAugment (wide): one of 14 operations at one of 31 strengths, drawn for each image.

    The operations are those of `rand_augment`. At the highest strength they are: shear of tan 0.99,
    translation by 32 pixels, rotation by 135 degrees, factors of 1 ± 0.99, 6 bits less, solarize at
    threshold 0. Signs are random [Müller & Hutter 2021, arXiv:2103.10158].

    Args:
        mode: "fused" or "exact", see `one_of`. "fused" is faster.
        method: Interpolation of geometric operations, "nearest" or "bilinear".
        fill: Level outside of the image, in [0, 1], also for bytes.

    Raises:
        ConfigError: An option is out of range.
    """
    sampling = expect_sampling("trivial_augment", method, fill)

    # Each bin is equally likely.
    def strength(word: Array) -> Array:
        return random.integers(word, LAST_BIN + 1).astype(jnp.float32) * (1 / LAST_BIN)

    return one_of(*operations(NAMES, strength, WIDE, sampling), mode=mode)
