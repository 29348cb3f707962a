"""Color jitter: brightness, contrast, saturation and hue in random order."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.color.channels import rotate_channel_hue
from fnn.augment.intensity import GRAY, map_rgb, max_level, rgb_only, to_float
from fnn.augment.ops import Ops, PixelOp
from fnn.augment.policy import Drawn, Policy
from fnn.types import Image, ImageShape, Number
from fnn.values import maker
from fnn.xla import fused_alone

NAMES = ("brightness", "contrast", "saturation", "hue")
HUE = 3  # index of the hue in NAMES


@maker
def jitter(
    *,
    brightness: Number = 0.0,
    contrast: Number = 0.0,
    saturation: Number = 0.0,
    hue: Number | None = None,
) -> Policy:
    """Change brightness, contrast, saturation and hue in random order [torchvision ColorJitter].

    Each factor and the order are drawn for each image. The changes before the hue are one linear
    map of the colors, and so are those after it. Levels are therefore clipped before the hue and at
    the end, not after each change. Gray images are changed as three equal channels; alpha is kept.

    Args:
        brightness: Strength s >= 0: the factor is drawn uniformly from [max(0, 1 - s), 1 + s]. See
            `augment.brightness` for the factor. 0 changes nothing.
        contrast: Strength of the contrast, as `brightness`.
        saturation: Strength of the saturation, as `brightness`.
        hue: Strength h in [0, 1/2]: the rotation is drawn uniformly from [-h, h], in turns of 360
            degrees. None leaves the hue out, which is faster than 0.

    Raises:
        ConfigError: A strength is negative, or `hue` is above 1/2.
    """
    strengths = {
        "brightness": brightness,
        "contrast": contrast,
        "saturation": saturation,
        "hue": 0.0 if hue is None else hue,
    }
    for name, strength in strengths.items():
        interval = "[0, 0.5]" if name == "hue" else "[0, inf)"
        checks.number(f"jitter {name}", strength, interval)

    def read(words: Array, shape: ImageShape) -> Drawn:
        drawn = {}
        for name, word in zip(NAMES, words[:4], strict=True):
            strength = jnp.asarray(strengths[name], jnp.float32)
            if name == "hue":
                drawn[name] = random.uniform(word, -strength, strength)
            else:
                lowest = jnp.maximum(0, 1 - strength)
                drawn[name] = random.uniform(word, lowest, 1 + strength)
        # The rank of each of four random words is the position of a change in the order.
        row = words[4:][None, :]
        column = words[4:][:, None]
        is_earlier = row < column  # (changes, changes)
        drawn["place"] = is_earlier.sum(1).astype(jnp.int32)
        return drawn

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        change = partial(_jitter, drawn, hue is not None)
        return (PixelOp(rgb_only(change, gray=True)),)

    return Policy(8, read, lower)


def _jitter(
    drawn: Drawn,
    with_hue: bool,
    image: Image,
) -> Image:
    order = drawn["place"]
    mix = partial(_mix, max_level(image))
    if not with_hue:
        return map_rgb(mix, image, _coefficients(drawn, image, order >= 0))

    def mix_and_rotate(
        colors: Sequence[Array],
        coefficients: Array,
        hue: Array,
    ) -> list[Array]:
        mixed = mix(colors, coefficients)
        return rotate_channel_hue(mixed, hue.astype(colors[0].dtype))

    before = _coefficients(drawn, image, order < order[HUE])
    image = map_rgb(mix_and_rotate, image, before, drawn["hue"])
    after = _coefficients(drawn, image, order > order[HUE])
    return map_rgb(mix, image, after)


def _mix(
    highest: float,
    colors: Sequence[Array],
    coefficients: Array,
) -> list[Array]:
    """Return clip(a x + b gray + level) of each channel x, with coefficients (a, b, level)."""
    color_part, gray_part, level = coefficients.astype(colors[0].dtype)
    gray = jnp.zeros_like(colors[0])
    for weight, channel in zip(GRAY, colors, strict=True):
        gray = gray + weight * channel
    offset = gray_part * gray + level
    return [jnp.clip(color_part * channel + offset, 0, highest) for channel in colors]


def _coefficients(
    drawn: Drawn,
    image: Image,
    applies: Array,
) -> Array:
    """Return the coefficients (3,) of `_mix` that do all changes where `applies` (4,) is True.

    The result is b (c (s x + (1 - s) gray) + (1 - c) mean), with brightness b, contrast c and
    saturation s.
    """
    # Any order gives this formula: brightness scales the mean that contrast refers to, and
    # saturation keeps the gray of each pixel, hence the mean.
    factors = []
    for k, name in enumerate(NAMES[:HUE]):
        factors.append(jnp.where(applies[k], drawn[name], 1))
    b, c, s = factors
    color_part = b * c * s
    gray_part = b * c * (1 - s)
    level = b * (1 - c) * fused_alone(_mean_gray)(image)
    return jnp.stack([color_part, gray_part, level])


def _mean_gray(image: Image) -> Array:
    height, width = image.shape[:2]
    # Sum along the columns first: XLA vectorizes a loop over the sums of a long row, and it would
    # merge two sums into one. (width * channels,)
    sums = to_float(image.reshape(height, -1)).sum(0)
    weights = jnp.tile(jnp.asarray(GRAY, sums.dtype), width)
    total = jnp.dot(sums, weights, precision=jax.lax.Precision.HIGHEST)
    return (total / (height * width)).astype(jnp.float32)
