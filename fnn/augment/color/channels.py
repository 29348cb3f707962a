"""Color augmentations that mix channels; gray images and alpha are kept unless stated otherwise."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.color.pointwise import blend
from fnn.augment.intensity import (
    LEVELS,
    clip_levels,
    fill_level,
    from_float,
    is_float,
    luma,
    luma_of_bytes,
    map_rgb,
    max_level,
    rgb_only,
    to_float,
)
from fnn.augment.ops import Ops, PixelOp
from fnn.augment.policy import Drawn, Policy, simple_policy
from fnn.augment.random import expect_magnitude
from fnn.types import Image, ImageShape, Magnitude, Number
from fnn.values import maker
from fnn.xla import rounded, rounded_product


@maker
def saturation(factor: Magnitude) -> Policy:
    """Change the saturation: gray + factor (x - gray), as Pillow's Color.

    gray = 0.299 R + 0.587 G + 0.114 B, rounded for bytes. The result is clipped, and bytes are
    rounded down.

    Args:
        factor: Factor >= 0: 0 gives a gray image, 1 the image, more is more colorful. A number is
            used as it is; from a pair (low, high) it is drawn uniformly.

    Raises:
        ConfigError: `factor` is negative.
    """
    expect_magnitude("saturation factor", factor, "[0, inf)")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        change = partial(saturate, factor=drawn["factor"])
        op = PixelOp(rgb_only(change))
        return (op,)

    read = partial(random.sample_magnitude, magnitude=factor)
    return simple_policy(lower, factor=read)


def saturate(image: Image, factor: Array) -> Image:
    if is_float(image):
        return _saturate_floats(image, factor)
    return map_rgb(_saturate_bytes, image, factor)


# One program, also in eager mode: its products and sums are then contracted in the same way.
@jax.jit
def _saturate_floats(image: Image, factor: Array) -> Image:
    gray = luma(image)
    gray = gray[..., None]  # (height, width, 1)
    x = to_float(image)
    largest = max_level(image)
    blended = blend(factor, x, largest, gray)
    return from_float(blended, image)


def _saturate_bytes(channels: Sequence[Array], factor: Array) -> list[Array]:
    """Change the saturation of red, green and blue, levels in [0, 255]."""
    gray = luma_of_bytes(channels)
    highest = float(LEVELS - 1)
    return [clip_levels(blend(factor, x, highest, gray), highest) for x in channels]


@maker
def grayscale(probability: Number = 1.0) -> Policy:
    """Convert the image to gray, in three equal channels, with a probability.

    gray = 0.299 R + 0.587 G + 0.114 B, rounded for bytes.

    Args:
        probability: In [0, 1].

    Raises:
        ConfigError: `probability` is outside of [0, 1].
    """
    checks.number("grayscale probability", probability, "[0, 1]")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        def change(image: Image) -> Image:
            gray = luma(image)
            gray = gray[..., None]  # (height, width, 1)
            gray = gray.astype(image.dtype)
            three = jnp.broadcast_to(gray, image.shape)
            # A choice rather than a branch: under vmap both would be computed anyway.
            return jnp.where(drawn["gray"], three, image)

        # Images of one channel are gray already.
        op = PixelOp(rgb_only(change))
        return (op,)

    read = partial(random.bernoulli, probability=probability)
    return simple_policy(lower, gray=read)


@maker
def hue(turns: Magnitude) -> Policy:
    """Rotate the hue on the HSV color wheel, as torchvision's adjust_hue.

    Args:
        turns: Rotation in turns of 360 degrees, in [-1/2, 1/2]: 1/3 makes red green, green blue and
            blue red. A number is used as it is; from a pair (low, high) it is drawn uniformly.

    Raises:
        ConfigError: `turns` is outside of [-1/2, 1/2].
    """
    expect_magnitude("hue turns", turns, "[-0.5, 0.5]")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        change = partial(rotate_hue, turns=drawn["turns"])
        op = PixelOp(rgb_only(change))
        return (op,)

    read = partial(random.sample_magnitude, magnitude=turns)
    return simple_policy(lower, turns=read)


def rotate_hue(image: Image, turns: Array) -> Image:
    """Rotate the hue of an image (height, width, 3)."""
    # A factor, since some programs divide by a constant and some multiply by its inverse.
    scale = 1 / max_level(image)
    x = rounded(to_float(image) * scale)
    channels = [x[..., k] for k in range(3)]
    typed_turns = turns.astype(x.dtype)
    rotated = rotate_channel_hue(channels, typed_turns)
    levels = jnp.stack(rotated, -1)  # in [0, 1]
    if is_float(image):
        return levels.astype(image.dtype)
    # The conversion of torchvision, which spreads [0, 1] evenly over 256 levels.
    steps = levels * (256 - 1e-3)
    whole = jnp.floor(steps)
    return whole.astype(image.dtype)


def rotate_channel_hue(
    channels: Sequence[Array],
    turns: Array,
) -> list[Array]:
    """Rotate the hue of red, green and blue; value v and chroma c are kept.

    A channel is v - clip(2c - |k - 2c|, 0, c) with k = c (n + 6 hue) mod 6c, and n = 5, 3, 1 for
    red, green and blue.
    """
    # All is multiplied by c, so that there is no division: gray pixels have no hue, and XLA:CPU
    # does not fuse loops across a division.
    r, g, b = channels
    red_or_green = jnp.maximum(r, g)
    value = jnp.maximum(red_or_green, b)
    least_of_two = jnp.minimum(r, g)
    lowest = jnp.minimum(least_of_two, b)
    c = value - lowest
    # 6 c hue, from -c to 5c; the formula depends on the channel that is the highest.
    if_red = g - b
    if_green = b - r + 2 * c
    if_blue = r - g + 4 * c
    not_red = jnp.where(value == g, if_green, if_blue)
    scaled_hue = jnp.where(value == r, if_red, not_red)

    sextants = jnp.asarray(6, turns.dtype)

    def channel(n: int) -> Array:
        rotation = rounded_product(sextants, turns)
        offset = jnp.mod(n + rotation, 6)
        # From -c to 11c, without the modulo: |k - 2c| of k mod 6c equals ||k - 5c| - 3c|.
        k = scaled_hue + rounded_product(offset, c)
        peak = 2 * c
        from_middle = jnp.abs(k - 5 * c)
        distance = jnp.abs(from_middle - 3 * c)
        drop = jnp.clip(peak - distance, 0, c)
        return value - drop

    red = channel(5)
    green = channel(3)
    blue = channel(1)
    return [red, green, blue]


@maker
def rgb_shift(amount: Magnitude) -> Policy:
    """Add a constant to each color channel, drawn independently for red, green and blue.

    The result is clipped to the range of levels; bytes are rounded.

    Args:
        amount: Shift as a share of the range of levels, in [-1, 1]; positive is brighter. A number
            is used as it is, for all three channels; from a pair (low, high) each shift is drawn
            uniformly.

    Raises:
        ConfigError: `amount` is outside of [-1, 1].
    """
    expect_magnitude("rgb_shift amount", amount, "[-1, 1]")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        shifts = [
            drawn["red"],
            drawn["green"],
            drawn["blue"],
        ]
        shift = jnp.stack(shifts)  # (3,)
        change = partial(_shift, shift=shift)
        op = PixelOp(rgb_only(change))
        return (op,)

    # Each channel has its own word.
    read = partial(random.sample_magnitude, magnitude=amount)
    return simple_policy(
        lower,
        red=read,
        green=read,
        blue=read,
    )


def _shift(image: Image, shift: Array) -> Image:
    """Add (3,) shares of the range to the channels."""
    x = to_float(image)
    # Bytes are rounded down afterwards, so half a level rounds to the nearest.
    rounding = 0 if is_float(image) else 0.5
    typed_shift = shift.astype(x.dtype)
    exact = rounded(typed_shift * max_level(image))
    levels = exact + rounding
    # (1, 1, channels)
    levels = levels[None, None]
    return from_float(x + levels, image)


# The colors of ImageNet, levels in [0, 1], as in fb.resnet.torch: standard deviations along the
# principal axes, and the axes, one in each column.
IMAGENET_DEVIATIONS = (0.2175, 0.0188, 0.0045)
IMAGENET_AXES = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


@maker
def pca_lighting(deviation: Number = 0.1) -> Policy:
    """Shift the colors along the principal axes of ImageNet [Krizhevsky et al. 2012, section 4.1].

    x + Σ_i α_i λ_i p_i with α_i of N(0, deviation²), standard deviations λ_i and axes p_i of the
    colors of ImageNet.

    Args:
        deviation: Standard deviation of α, >= 0. The default is that of the paper. May be traced.

    Raises:
        ConfigError: `deviation` is negative.
    """
    checks.number("pca_lighting deviation", deviation, "[0, inf)")

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        draws = [
            drawn["axis_0"],
            drawn["axis_1"],
            drawn["axis_2"],
        ]
        coefficients = jnp.stack(draws)  # (axes,)
        deviations = jnp.array(IMAGENET_DEVIATIONS, jnp.float32)
        along_axes = coefficients * deviations
        axes = jnp.array(IMAGENET_AXES, jnp.float32)
        # (channels, axes) * (1, axes), summed over the axes in a fixed order: (channels,)
        terms = rounded_product(axes, along_axes[None])
        first = terms[:, 0]
        second = terms[:, 1]
        third = terms[:, 2]
        shift = first + second + third
        change = partial(_shift, shift=shift)
        op = PixelOp(rgb_only(change))
        return (op,)

    def read(word: Array) -> Array:
        scale = jnp.asarray(deviation, jnp.float32)
        return scale * random.normal(word)

    return simple_policy(
        lower,
        axis_0=read,
        axis_1=read,
        axis_2=read,
    )


@maker
def channel_drop(probability: Number = 0.5, *, fill: Number = 0.0) -> Policy:
    """Set one channel, drawn uniformly, to one value, with a probability.

    Gray images and alpha are changed as well.

    Args:
        probability: In [0, 1].
        fill: Level of the channel, in [0, 1], also for images of bytes.

    Raises:
        ConfigError: `probability` or `fill` is outside of [0, 1].
    """
    checks.number("channel_drop probability", probability, "[0, 1]")
    checks.number("channel_drop fill", fill, "[0, 1]")

    def read(words: Array, shape: ImageShape) -> Drawn:
        _, _, channels = shape
        drops = random.bernoulli(words[0], probability)
        channel = random.integers(words[1], channels)
        return {
            "drops": drops,
            "channel": channel,
        }

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        _, _, channels = shape

        def change(image: Image) -> Image:
            numbers = jnp.arange(channels, dtype=jnp.int32)
            is_drawn = numbers == drawn["channel"]
            is_dropped = is_drawn & drawn["drops"]
            level = fill_level(fill, image.dtype)
            # (1, 1, channels)
            mask = is_dropped[None, None]
            return jnp.where(mask, level, image)

        op = PixelOp(change, unbounded=True)
        return (op,)

    return Policy(2, read, lower)
