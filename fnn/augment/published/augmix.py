"""AugMix: mixtures of an image with several augmented copies of it."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.compose import some_of
from fnn.augment.execute import execute
from fnn.augment.intensity import from_float, to_float
from fnn.augment.ops import Ops, PixelOp
from fnn.augment.policy import Drawn, Policy
from fnn.augment.published.operations import Span, expect_sampling, operations
from fnn.types import Image, ImageShape, Number
from fnn.values import maker
from fnn.xla import rounded_product

SPAN = Span(translate=lambda length: length / 3, kept=4)
# The identity is first: it ends a chain early, and is not drawn.
NAMES = [
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
    "brightness",
    "color",
    "contrast",
    "sharpness",
]
LAST_BIN = 9  # strengths are counted in 10 bins, 0 to 9
MAX_DEPTH = 3  # operations in a chain


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
    """AugMix: m x + (1 - m) Σ_i w_i chain_i(x), with random chains of operations.

    m is of the distribution Beta(α, α), and w of Dirichlet(α, ..., α). A chain has one to three of
    13 operations. Operations and strengths are drawn for each image; magnitudes are those of
    torchvision [Hendrycks et al. 2020, arXiv:1912.02781].

    Args:
        severity: Number of the lowest strengths, of 10, from which strengths are drawn, 1 to 10.
        width: Number of chains, >= 1.
        alpha: α > 0. With 1, m is uniform.
        mode: "fused" or "exact", see `one_of`. "fused" is faster; "exact" keeps the drawn order of
            the operations.
        method: Interpolation of geometric operations, "bilinear" or "nearest".
        fill: Level outside of the image, in [0, 1], also for bytes.

    Raises:
        ConfigError: An option is out of range.
    """
    checks.whole("augmix severity", severity)
    checks.choice("augmix severity", severity, range(1, LAST_BIN + 2))
    checks.whole("augmix width", width)
    checks.number("augmix alpha", alpha, "(0, inf)")
    sampling = expect_sampling("augmix", method, fill)

    def strength(word: Array) -> Array:
        return random.integers(word, severity).astype(jnp.float32) * (1 / LAST_BIN)

    options = operations(NAMES, strength, SPAN, sampling)
    # All but the identity are equally likely.
    weights = [0.0] + [1.0] * (len(NAMES) - 1)
    chain = some_of(*options, count=MAX_DEPTH, weights=weights, mode=mode)

    def read(words: Array, shape: ImageShape) -> Drawn:
        # Two words for a key, one for the depth of each chain, and those of the chains.
        keys = jax.random.split(random.key_from_words(words[:2]))
        concentration = jnp.asarray(alpha, jnp.float32)
        chain_words = words[2 + width :].reshape(width, chain.words)
        image_share = jax.random.beta(keys[0], concentration, concentration)
        weights = jax.random.dirichlet(keys[1], jnp.broadcast_to(concentration, (width,)))
        chains = []
        for k in range(width):
            draws = chain.read(chain_words[k], shape)
            last = random.integers(words[2 + k], MAX_DEPTH)
            chains.append(_truncate(draws, last))
        return {"image": image_share, "weights": weights, "chains": chains}

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        chains = [chain.lower(draws, shape) for draws in drawn["chains"]]
        change = partial(_mix, drawn["image"], drawn["weights"], chains)
        return (PixelOp(change, spatial=True, moves_pixels=True),)

    return Policy(2 + width + width * chain.words, read, lower)


def _truncate(draws: Drawn, last: Array) -> Drawn:
    """Replace all operations after number `last` of a chain by the identity."""
    truncated = []
    for index, draw in enumerate(draws):
        option = jnp.where(index <= last, draw["which"], 0)
        truncated.append(draw | {"which": option})
    return truncated


def _mix(
    image_share: Array,
    weights: Array,
    chains: list[Ops],
    image: Image,
) -> Image:
    dtype = to_float(image).dtype
    mix = rounded_product(image_share.astype(dtype), to_float(image))
    for weight, ops in zip(weights, chains, strict=True):
        # The shares of the image and of all chains sum to 1.
        share = rounded_product(1 - image_share, weight).astype(mix.dtype)
        mix = mix + rounded_product(share, to_float(execute(ops, image)))
    return from_float(mix, image)
