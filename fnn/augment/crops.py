"""Crops, padding and antialiased resizing."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import matrices, random
from fnn.augment.ops import GeometricOp, Ops, Size
from fnn.augment.policy import Drawn, Policy
from fnn.augment.random import expect_magnitude
from fnn.augment.resample.borders import MODES
from fnn.augment.resample.scale import KERNELS
from fnn.errors import ConfigError, ShapeError
from fnn.types import ImageShape, Number
from fnn.values import maker

ATTEMPTS = 10  # windows that are drawn before the central one is used, as in torchvision


@maker
def crop(size: int | tuple[int, int]) -> Policy:
    """Crop the center of the image.

    Args:
        size: Size of the window in pixels, one int or (height, width).

    Raises:
        ConfigError: `size` is not a whole number >= 1 or two of them.
        ShapeError: The image is smaller than the window.
    """
    window = checks.pair("crop size", size)

    def reshape(shape: ImageShape) -> ImageShape:
        return (*window, shape[2])

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        offsets = []
        for spare in _spare_pixels("crop", shape, window, padding=0):
            # round, as torchvision's center_crop does.
            offset = round(spare / 2)
            offsets.append(jnp.float32(offset))
        # The window is inside of the image, so that neither mode nor fill matter.
        op = _window(offsets, window, (0, 0))
        return (op,)

    return Policy(0, _read_nothing, lower, reshape)


def _read_nothing(words: Array, shape: ImageShape) -> Drawn:
    """Read the parameters of a policy without random numbers."""
    return {}


@maker(structure=("fill",))
def pad(
    padding: int | tuple[int, int],
    *,
    mode: str = "constant",
    fill: Number = 0.0,
) -> Policy:
    """Pad the image on all four sides.

    Args:
        padding: Number of pixels on each side, >= 0: one int, or (rows, columns), where `rows` are
            added above and below, and `columns` on the left and on the right.
        mode: Padding mode of `numpy.pad`: "constant", "edge", "reflect", "symmetric" or "wrap".
        fill: Level of the padding for the mode "constant", in [0, 1], also for bytes.

    Raises:
        ConfigError: An option is out of range.
    """
    rows, columns = checks.pair("pad padding", padding, 0)
    checks.choice("pad mode", mode, MODES)
    checks.number("pad fill", fill, "[0, 1]")

    def reshape(shape: ImageShape) -> ImageShape:
        height, width, channels = shape
        return height + 2 * rows, width + 2 * columns, channels

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        # A window that is larger than the image, and begins outside of it.
        offsets = [jnp.float32(-rows), jnp.float32(-columns)]
        size = reshape(shape)[:2]
        reach = (rows, columns)
        op = _window(offsets, size, reach, mode, fill)
        return (op,)

    return Policy(0, _read_nothing, lower, reshape)


@maker(structure=("fill",))
def random_crop(
    *,
    padding: int = 4,
    mode: str = "reflect",
    size: int | tuple[int, int] | None = None,
    fill: Number = 0.0,
) -> Policy:
    """Pad the image, then crop a window at a random position [He et al. 2016, arXiv:1512.03385].

    All positions at whole pixels are equally likely.

    Args:
        padding: Number of pixels added on each side, >= 0. The default is that of the paper for
            CIFAR's images of 32 x 32 pixels.
        mode: Padding mode of `numpy.pad`: "constant", "edge", "reflect", "symmetric" or "wrap".
        size: Size of the window in pixels, one int or (height, width). None: the size of the image.
        fill: Level of the padding for the mode "constant", in [0, 1], also for bytes.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: The window is larger than the padded image.
    """
    checks.whole("random_crop padding", padding, 0)
    checks.choice("random_crop mode", mode, MODES)
    checks.number("random_crop fill", fill, "[0, 1]")
    window = None if size is None else checks.pair("random_crop size", size)

    def window_of(shape: ImageShape) -> Size:
        return window or shape[:2]

    def reshape(shape: ImageShape) -> ImageShape:
        return (*window_of(shape), shape[2])

    def read(words: Array, shape: ImageShape) -> Drawn:
        spare = _spare_pixels("random_crop", shape, window_of(shape), padding)
        drawn = {}
        # One word for each axis.
        for name, word, count in zip(("top", "left"), words, spare, strict=True):
            # An offset in the image without padding, so it may be negative.
            drawn[name] = random.integers(word, count + 1) - padding
        return drawn

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        top = drawn["top"].astype(jnp.float32)
        left = drawn["left"].astype(jnp.float32)
        reach = (padding, padding)
        op = _window([top, left], window_of(shape), reach, mode, fill)
        return (op,)

    return Policy(2, read, lower, reshape)


def _spare_pixels(
    name: str,
    shape: ImageShape,
    window: Size,
    padding: int,
) -> tuple[int, int]:
    """Return by how many rows and columns the padded image is larger than the window."""
    height = shape[0] + 2 * padding
    width = shape[1] + 2 * padding
    if window[0] > height or window[1] > width:
        expected = f"an image of at least {window} after padding"
        raise ShapeError(name, expected, (height, width), "crop less or pad more")
    return height - window[0], width - window[1]


def _window(
    offsets: Sequence[Array],
    size: Size,
    reach: Size,
    mode: str = "constant",
    fill: Number = 0.0,
) -> GeometricOp:
    """Make the op that shows a window of this size, whose corner is at the offsets."""
    # Row r of the window is row r + offset of the image.
    shift = matrices.translation(offsets[0], offsets[1])
    return GeometricOp(
        shift,
        size,
        integral=True,
        reach=reach,
        crops=True,
        mode=mode,
        fill=fill,
    )


@maker
def resize(size: int | tuple[int, int], *, method: str = "bilinear") -> Policy:
    """Resize the whole image with antialiasing, as Pillow and PyTorch (antialias=True).

    Args:
        size: New size in pixels, one int or (height, width). The ratio of the sides may change.
        method: Kernel, "bilinear" or "bicubic".

    Raises:
        ConfigError: An option is out of range.
    """
    window = checks.pair("resize size", size)
    checks.choice("resize method", method, list(KERNELS))

    def reshape(shape: ImageShape) -> ImageShape:
        return (*window, shape[2])

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        # The window is the whole image.
        corner = [jnp.float32(0)] * 2
        sides = [jnp.float32(length) for length in shape[:2]]
        op = _resized_window(corner, sides, shape, window, method)
        return (op,)

    return Policy(0, _read_nothing, lower, reshape)


@maker
def random_resized_crop(
    size: int | tuple[int, int],
    *,
    area: tuple[Number, Number] = (0.08, 1.0),
    ratio: tuple[Number, Number] = (3 / 4, 4 / 3),
    method: str = "bilinear",
) -> Policy:
    """Crop a window of random area and aspect ratio, and resize it with antialiasing.

    Windows are drawn ten times, and the first that fits in the image is used. If none does, it is
    the largest central window whose ratio is within `ratio` [Szegedy et al. 2015, arXiv:1409.4842;
    torchvision RandomResizedCrop].

    Args:
        size: Size of the result in pixels, one int or (height, width).
        area: (low, high), between which the area of the window is drawn uniformly, as a share of
            the area of the image, in (0, 1].
        ratio: (low, high) of width / height of the window, > 0. Its logarithm is drawn uniformly.
        method: Kernel, "bilinear" or "bicubic".

    Raises:
        ConfigError: An option is out of range.
    """
    window = checks.pair("random_resized_crop size", size)
    checks.choice("random_resized_crop method", method, list(KERNELS))
    areas = expect_pair("random_resized_crop area", area, "(0, 1]")
    ratios = expect_pair("random_resized_crop ratio", ratio, "(0, inf)")

    def reshape(shape: ImageShape) -> ImageShape:
        return (*window, shape[2])

    def read(words: Array, shape: ImageShape) -> Drawn:
        # One attempt has the words of area, ratio, top and left.
        attempts = words.reshape(ATTEMPTS, 4)
        heights, widths = draw_sides(attempts, shape)
        is_inside = (heights <= shape[0]) & (widths <= shape[1])
        # Rounding may give a side of 0.
        fits = is_inside & (heights > 0) & (widths > 0)
        fallback_height, fallback_width = largest_window(shape)
        # The first True, and 0 if there is none.
        first = jnp.argmax(fits)
        height = jnp.where(fits.any(), heights[first], fallback_height)
        width = jnp.where(fits.any(), widths[first], fallback_width)
        # Whole offsets, each equally likely.
        top_share = random.unit_uniform(attempts[first, 2])
        top = jnp.floor(top_share * (shape[0] - height + 1))
        left_share = random.unit_uniform(attempts[first, 3])
        left = jnp.floor(left_share * (shape[1] - width + 1))
        # The fallback is in the center.
        center_top = jnp.floor((shape[0] - fallback_height) / 2)
        center_left = jnp.floor((shape[1] - fallback_width) / 2)
        top = jnp.where(fits.any(), top, center_top)
        left = jnp.where(fits.any(), left, center_left)
        return {"top": top, "left": left, "height": height, "width": width}

    def draw_sides(attempts: Array, shape: ImageShape) -> tuple[Array, Array]:
        """Draw heights and widths (attempts,) in whole pixels."""
        image_pixels = shape[0] * shape[1]
        pixels = random.uniform(attempts[:, 0], *areas) * image_pixels
        width_by_height = draw_log_uniform(attempts[:, 1], ratios)
        # h w = pixels and w / h = ratio.
        height = jnp.round(jnp.sqrt(pixels / width_by_height))
        width = jnp.round(jnp.sqrt(pixels * width_by_height))
        return height, width

    def largest_window(shape: ImageShape) -> tuple[Array, Array]:
        """Return height and width of the largest window whose ratio is allowed."""
        image_ratio = jnp.float32(shape[1] / shape[0])
        low = jnp.asarray(ratios[0], jnp.float32)
        high = jnp.asarray(ratios[1], jnp.float32)
        width_by_height = jnp.clip(image_ratio, low, high)
        # As wide as the image, or as high, whichever is smaller.
        height_of_full_width = jnp.round(shape[1] / width_by_height)
        height = jnp.minimum(shape[0], height_of_full_width)
        width_of_full_height = jnp.round(shape[0] * width_by_height)
        width = jnp.minimum(shape[1], width_of_full_height)
        return height, width

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        corner = [drawn["top"], drawn["left"]]
        sides = [drawn["height"], drawn["width"]]
        op = _resized_window(corner, sides, shape, window, method)
        return (op,)

    return Policy(4 * ATTEMPTS, read, lower, reshape)


def expect_pair(
    where: str,
    pair: tuple[Number, Number],
    interval: str,
) -> tuple[Number, Number]:
    """Raise unless the value is a pair (low, high) within the interval."""
    if not isinstance(pair, tuple):
        raise ConfigError(where, "(low, high)", repr(pair), "give the two ends")
    expect_magnitude(where, pair, interval)
    return pair


def draw_log_uniform(words: Array, ends: tuple[Number, Number]) -> Array:
    """Draw numbers whose logarithm is uniform between those of the two ends."""
    low = jnp.log(jnp.asarray(ends[0], jnp.float32))
    high = jnp.log(jnp.asarray(ends[1], jnp.float32))
    return jnp.exp(random.uniform(words, low, high))


def _resized_window(
    corner: Sequence[Array],
    sides: Sequence[Array],
    shape: ImageShape,
    size: Size,
    method: str,
) -> GeometricOp:
    """Make the op that resizes a window of the image.

    Args:
        corner: Row and column of the window, in pixels.
        sides: Height and width of the window, in pixels.
        shape: Shape of the image.
        size: New height and width.
        method: Kernel.
    """
    # Pixels of the window per new pixel.
    factors = [side / new for side, new in zip(sides, size, strict=True)]
    # The new pixel i covers [i, i + 1) times the factor. Its center is the middle of that, and a
    # coordinate is half a pixel less, because it is counted from the center of the first pixel.
    starts = []
    for begin, factor in zip(corner, factors, strict=True):
        starts.append(begin + factor / 2 - 0.5)
    _, radius = KERNELS[method]
    # The largest window is the whole image, which bounds the number of pixels under a kernel.
    support = []
    for old, new in zip(shape[:2], size, strict=True):
        # An enlarged image is interpolated, with the radius of the kernel itself.
        shrinkage = max(1, old / new)
        support.append(math.ceil(2 * radius * shrinkage) + 1)
    matrix = matrices.product(
        matrices.translation(starts[0], starts[1]),
        matrices.scaling(factors[0], factors[1]),
    )
    return GeometricOp(
        matrix,
        size,
        support=(support[0], support[1]),
        method=method,
    )
