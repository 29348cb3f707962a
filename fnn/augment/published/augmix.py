"""AugMix: an image mixed with chains of operations on it."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.compose import some_of
from fnn.augment.execute import rendered
from fnn.augment.intensity import loose, settled
from fnn.augment.ops import Paint, Steps
from fnn.augment.policy import Drawn, Policy
from fnn.augment.published.operations import Span, operations
from fnn.augment.published.rand_augment import expect_looks
from fnn.types import Image, ImageShape, Number
from fnn.values import maker

SPAN = Span(translate=lambda length: length / 3, kept=4)
NAMES = [
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "posterize",
    "solarize",
]
NAMES += ["autocontrast", "equalize", "brightness", "color", "contrast", "sharpness"]
LAST_BIN = 9
DEPTH = 3


@maker(structure=("fill",))
def augmix(
    *,
    severity: int = 3,
    width: int = 3,
    alpha: Number = 1.0,
    mode: str = "fused",
    method: str = "bilinear",
    fill: Number = 0.0,
) -> Policy:
    """m x + (1 - m) Σ_i w_i chain_i(x), with m of Beta(α, α), w of Dirichlet(α, ..., α), and `width` chains.

    A chain is one to three of 13 operations, each at one of the lowest `severity` of ten strengths, all drawn for each
    image.
    mode: see `one_of`; method and fill of the moves as in `rotate`. ConfigError for an option out of range
    [Hendrycks et al. 2020, arXiv:1912.02781; spans as in torchvision].
    """
    checks.whole("augmix severity", severity)
    checks.choice("augmix severity", severity, range(1, LAST_BIN + 2))
    checks.whole("augmix width", width)
    checks.number("augmix alpha", alpha, "(0, inf)")
    looks = expect_looks("augmix", method, fill)

    def strength(word: Array) -> Array:
        return random.below(word, severity).astype(jnp.float32) / LAST_BIN

    weights = [0.0] + [1.0] * (len(NAMES) - 1)
    chain = some_of(
        *operations(NAMES, strength, SPAN, looks), count=DEPTH, weights=weights, mode=mode
    )

    def read(words: Array, shape: ImageShape) -> Drawn:
        keys = jax.random.split(random.own_key(words[:2]))
        parts = jnp.asarray(alpha, jnp.float32)
        own = words[2 + width :].reshape(width, chain.words)
        return {
            "image": jax.random.beta(keys[0], parts, parts),
            "weights": jax.random.dirichlet(keys[1], jnp.broadcast_to(parts, (width,))),
            "chains": [
                _cut(chain.read(own[k], shape), random.below(words[2 + k], DEPTH))
                for k in range(width)
            ],
        }

    def _cut(turns: Drawn, last: Array) -> Drawn:
        """A chain of which what comes after the last is the identity."""
        return [
            turn | {"which": jnp.where(place <= last, turn["which"], 0)}
            for place, turn in enumerate(turns)
        ]

    def lower(drawn: Drawn, shape: ImageShape) -> Steps:
        chains = [chain.lower(own, shape) for own in drawn["chains"]]
        return (
            Paint(partial(_mixed, drawn["image"], drawn["weights"], chains), late=True, moves=True),
        )

    return Policy(2 + width + width * chain.words, read, lower)


def _mixed(share: Array, weights: Array, chains: list[Steps], image: Image) -> Image:
    mix = share.astype(loose(image).dtype) * loose(image)
    for weight, steps in zip(weights, chains, strict=True):
        mix = mix + ((1 - share) * weight).astype(mix.dtype) * loose(rendered(steps, image))
    return settled(mix, image)
