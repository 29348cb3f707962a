"""Changes of color, where the channels are mixed; gray images stay as they are, and so does a fourth channel, alpha."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.color.pointwise import blended
from fnn.augment.intensity import is_float, loose, luma, on_colors, settled, top
from fnn.augment.ops import Paint, Steps
from fnn.augment.policy import Drawn, Policy, simple
from fnn.augment.random import expect_magnitude
from fnn.types import Image, ImageShape, Magnitude, Number
from fnn.values import maker
from fnn.xla import fused_alone


@maker
def saturation(factor: Magnitude) -> Policy:
    """gray + factor (x - gray): 0 is a gray image, 1 the image; gray = 0.299 R + 0.587 G + 0.114 B, rounded for bytes.

    A magnitude is one number, which is taken as it is, or a pair (low, high), between which it is drawn. ConfigError
    for a negative factor. As Pillow's Color.
    """
    expect_magnitude("saturation factor", factor, "[0, inf)")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        return (Paint(on_colors(partial(saturated, factor=drawn["factor"]))),)

    return simple(steps, factor=partial(random.within, magnitude=factor))


def saturated(image: Image, factor: Array) -> Image:
    return fused_alone(_toward_gray)(
        image, factor
    )  # or a change before it would be worked out anew for every channel


def _toward_gray(image: Image, factor: Array) -> Image:
    gray = luma(image)[..., None]
    return settled(blended(factor, loose(image), top(image), gray), image)


@maker
def grayscale(probability: Number = 1.0) -> Policy:
    """All channels become the gray of `saturation`, with this probability.

    ConfigError unless 0 <= probability <= 1.
    """
    checks.number("grayscale probability", probability, "[0, 1]")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        def change(image: Image) -> Image:
            gray = jnp.broadcast_to(luma(image)[..., None].astype(image.dtype), image.shape)
            return jnp.where(drawn["gray"], gray, image)

        return (Paint(on_colors(change)),)

    return simple(steps, gray=partial(random.happens, probability=probability))


@maker
def hue(turns: Magnitude) -> Policy:
    """The hue of the HSV color wheel, in turns: 1/3 makes red green, green blue and blue red.

    ConfigError unless it is in [-1/2, 1/2]. As torchvision's adjust_hue.
    """
    expect_magnitude("hue turns", turns, "[-0.5, 0.5]")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        return (Paint(on_colors(partial(turned, turns=drawn["turns"]))),)

    return simple(steps, turns=partial(random.within, magnitude=turns))


def turned(image: Image, turns: Array) -> Image:
    """The image with its hue turned; bytes as torchvision converts them, cut at x (256 - 0.001)."""
    x = loose(image) / top(image)
    levels = jnp.stack(turned_colors([x[..., k] for k in range(3)], turns.astype(x.dtype)), -1)
    return (
        levels.astype(image.dtype)
        if is_float(image)
        else jnp.floor(levels * (256 - 1e-3)).astype(image.dtype)
    )


def turned_colors(colors: Sequence[Array], turns: Array) -> list[Array]:
    """Red, green and blue with the hue turned: value v and chroma c stay, and each channel is

    v - clip(2c - |k - 2c|, 0, c), with k = c (n + 6 hue) mod 6c and n = 5, 3, 1 for red, green, blue. All is
    times c, so that nothing is divided: a gray pixel has no hue, and XLA:CPU would not fuse a loop across a division.
    """
    r, g, b = colors
    value, least = jnp.maximum(jnp.maximum(r, g), b), jnp.minimum(jnp.minimum(r, g), b)
    c = value - least
    own = jnp.where(
        value == r, g - b, jnp.where(value == g, b - r + 2 * c, r - g + 4 * c)
    )  # from -c to 5c

    def channel(n: int) -> Array:
        k = (
            own + jnp.mod(n + 6 * turns, 6) * c
        )  # from -c to 11c, so that |k - 2c| of k mod 6c is ||k - 5c| - 3c|
        return value - jnp.clip(2 * c - jnp.abs(jnp.abs(k - 5 * c) - 3 * c), 0, c)

    return [channel(5), channel(3), channel(1)]


@maker
def rgb_shift(amount: Magnitude) -> Policy:
    """Each color channel brighter by an amount of its own, a part of the range. ConfigError unless it is in [-1, 1]."""
    expect_magnitude("rgb_shift amount", amount, "[-1, 1]")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        by = jnp.stack([drawn[name] for name in ("red", "green", "blue")])
        return (Paint(on_colors(partial(_shifted, by=by))),)

    read = partial(random.within, magnitude=amount)
    return simple(steps, red=read, green=read, blue=read)


def _shifted(image: Image, by: Array) -> Image:
    x = loose(image)
    nearest = 0 if is_float(image) else 0.5  # bytes are cut, so half a level more rounds them
    return settled(x + (by.astype(x.dtype) * top(image) + nearest)[None, None], image)


# Of the colors of ImageNet in [0, 1]: standard deviations along the principal axes, and these, one a column.
IMAGENET_DEVIATIONS = (0.2175, 0.0188, 0.0045)
IMAGENET_AXES = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


@maker
def pca_lighting(deviation: Number = 0.1) -> Policy:
    """The colors shifted along the principal axes of ImageNet's: x + Σ_i α_i λ_i p_i, with α_i of N(0, deviation²).

    ConfigError for a negative deviation [Krizhevsky et al. 2012, section 4.1; the figures are those of
    fb.resnet.torch].
    """
    checks.number("pca_lighting deviation", deviation, "[0, inf)")

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        along = jnp.stack([drawn[f"axis_{k}"] for k in range(3)]) * jnp.array(
            IMAGENET_DEVIATIONS, jnp.float32
        )
        by = (jnp.array(IMAGENET_AXES, jnp.float32) * along[None]).sum(1)
        return (Paint(on_colors(partial(_shifted, by=by))),)

    def read(word: Array) -> Array:
        return jnp.asarray(deviation, jnp.float32) * random.normal(word)

    return simple(steps, axis_0=read, axis_1=read, axis_2=read)


@maker
def channel_drop(probability: Number = 0.5, *, fill: Number = 0.0) -> Policy:
    """One of the channels, each as likely, becomes flat, of the level fill, with this probability.

    ConfigError unless 0 <= probability <= 1 and 0 <= fill <= 1.
    """
    checks.number("channel_drop probability", probability, "[0, 1]")
    checks.number("channel_drop fill", fill, "[0, 1]")

    def read(words: Array, shape: ImageShape) -> Drawn:
        return {
            "drops": random.happens(words[0], probability),
            "channel": random.below(words[1], shape[2]),
        }

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        def change(image: Image) -> Image:
            chosen = (jnp.arange(shape[2], dtype=jnp.int32) == drawn["channel"]) & drawn["drops"]
            level = jnp.asarray(fill, jnp.float32) * top(image)
            level = (level if is_float(image) else jnp.round(level)).astype(image.dtype)
            return jnp.where(chosen[None, None], level, image)

        return (Paint(change, unbounded=True),)

    return Policy(2, read, steps)
