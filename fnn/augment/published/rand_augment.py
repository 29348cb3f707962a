"""RandAugment and TrivialAugment: some operations at a strength, with nothing learned."""

import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.compose import one_of, some_of
from fnn.augment.geometry import ORDERS
from fnn.augment.policy import Policy
from fnn.augment.published.operations import Looks, Span, operations
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
]
NAMES += ["sharpness", "posterize", "solarize", "autocontrast", "equalize"]
LAST_BIN = 30  # strengths are counted in 31 bins from 0 to 30
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
    """`count` of 14 operations one after another, drawn for each image by itself, all at one magnitude of 0..30.

    The operations and what a magnitude is are torchvision's: at 30, shears of tan 0.3, moves of 150 / 331 of the side,
    30 degrees, factors of 1 ± 0.9, 4 bits, threshold 0; signs are drawn. mode: see `one_of`; method and fill of the
    moves as in `rotate`. ConfigError for an option out of range [Cubuk et al. 2019, arXiv:1909.13719].
    """
    checks.number("rand_augment magnitude", magnitude, f"[0, {LAST_BIN}]")
    looks = expect_looks("rand_augment", method, fill)

    def strength(word: Array) -> Array:
        return random.within(word, magnitude) / LAST_BIN

    return some_of(*operations(NAMES, strength, Span(), looks), count=count, mode=mode)


@maker(structure=("fill",))
def trivial_augment(*, mode: str = "fused", method: str = "nearest", fill: Number = 0.0) -> Policy:
    """One of RandAugment's operations at a strength of 31, both drawn for each image, over wider spans.

    At the strongest, shears of tan 0.99, moves of 32 pixels, 135 degrees, factors of 1 ± 0.99, 6 bits. mode: see
    `one_of`; method and fill of the moves as in `rotate`. ConfigError for an option out of range [Müller & Hutter 2021,
    arXiv:2103.10158].
    """
    looks = expect_looks("trivial_augment", method, fill)

    def strength(word: Array) -> Array:
        return random.below(word, LAST_BIN + 1).astype(jnp.float32) / LAST_BIN

    return one_of(*operations(NAMES, strength, WIDE, looks), mode=mode)


def expect_looks(name: str, method: str, fill: Number) -> Looks:
    checks.choice(f"{name} method", method, ORDERS)
    checks.number(f"{name} fill", fill, "[0, 1]")
    return Looks(method, fill)
