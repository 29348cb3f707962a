"""Brightness, contrast, saturation and hue together, in an order drawn for each image."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.color.channels import turned_colors
from fnn.augment.intensity import GRAY, loose, on_colors, painted, top
from fnn.augment.ops import Paint, Steps
from fnn.augment.policy import Drawn, Policy
from fnn.types import Image, ImageShape, Number
from fnn.values import maker
from fnn.xla import fused_alone

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NAMES = ("brightness", "contrast", "saturation", "hue")


@maker
def jitter(
    *,
    brightness: Number = 0.0,
    contrast: Number = 0.0,
    saturation: Number = 0.0,
    hue: Number | None = None,
) -> Policy:
    """Color jitter: factors drawn from [max(0, 1 - s), 1 + s] for each strength s, a hue from [-hue, hue], in turns.

    They are done in an order drawn for each image, as by torchvision's ColorJitter for a batch. All before the hue are
    one linear map of the colors and so are all after it, so that levels are clipped before the hue and at the end, not
    after each change. ConfigError for a negative strength, or a hue beyond 1/2.
    """
    strengths = {
        "brightness": brightness,
        "contrast": contrast,
        "saturation": saturation,
        "hue": 0.0 if hue is None else hue,
    }
    for name, strength in strengths.items():
        checks.number(f"jitter {name}", strength, "[0, 0.5]" if name == "hue" else "[0, inf)")

    def read(words: Array, shape: ImageShape) -> Drawn:
        drawn = {}
        for name, word in zip(NAMES, words[:4], strict=True):
            strength = jnp.asarray(strengths[name], jnp.float32)
            lowest = -strength if name == "hue" else jnp.maximum(0, 1 - strength)
            drawn[name] = random.between(word, lowest, strength if name == "hue" else 1 + strength)
        # The order of four random numbers: place[k] is when change number k has its turn.
        earlier = words[4:][None, :] < words[4:][:, None]
        return drawn | {"place": earlier.sum(1).astype(jnp.int32)}

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        return (Paint(on_colors(partial(_jittered, drawn, hue is not None), gray=True)),)

    return Policy(8, read, steps)


def _jittered(drawn: Drawn, with_hue: bool, image: Image) -> Image:
    place = drawn["place"]
    mixed = partial(_mixed, top(image))
    if not with_hue:
        return painted(mixed, image, _shares(drawn, image, place >= 0))

    def turned(colors: Sequence[Array], shares: Array, hue: Array) -> list[Array]:
        return turned_colors(mixed(colors, shares), hue.astype(colors[0].dtype))

    image = painted(turned, image, _shares(drawn, image, place < place[HUE]), drawn["hue"])
    return painted(mixed, image, _shares(drawn, image, place > place[HUE]))


def _mixed(highest: float, colors: Sequence[Array], shares: Array) -> list[Array]:
    """So much of each color, so much of its gray, and a level, as (3,) tells, clipped."""
    own, gray, level = shares.astype(colors[0].dtype)
    same = (
        gray
        * sum((part * x for part, x in zip(GRAY, colors, strict=True)), jnp.zeros_like(colors[0]))
        + level
    )
    return [jnp.clip(own * x + same, 0, highest) for x in colors]


def _shares(drawn: Drawn, image: Image, now: Array) -> Array:
    """What those changes that are to be done now come to: b (c (s x + (1 - s) gray) + (1 - c) mean), in any order.

    For brightness b scales the mean that contrast c is about, and saturation s leaves it as it is.
    """
    b, c, s = (jnp.where(now[k], drawn[NAMES[k]], 1) for k in (BRIGHTNESS, CONTRAST, SATURATION))
    return jnp.stack([b * c * s, b * c * (1 - s), b * (1 - c) * fused_alone(_mean)(image)])


def _mean(image: Image) -> Array:
    """The mean gray of the image."""
    # Down the columns first, for a loop over the sums of a long row is vectorized; XLA would make two sums one.
    sums = loose(image.reshape(image.shape[0], -1)).sum(0)
    weights = jnp.tile(jnp.asarray(GRAY, sums.dtype), image.shape[1])
    total = jnp.dot(sums, weights, precision=jax.lax.Precision.HIGHEST)
    return (total / (image.shape[0] * image.shape[1])).astype(jnp.float32)
