"""Pooling over windows, over adaptive regions and over all positions."""

from collections.abc import Callable
from math import prod

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ShapeError
from fnn.nn.core.stateless import stateless
from fnn.nn.core.windows import Padding, Sizes, Windows, check_padding
from fnn.nn.kernels import pool
from fnn.types import Layer, Shape
from fnn.values import maker


@maker
def max_pool(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
) -> Layer:
    """Max pooling of images: the largest value of each window, channel by channel.

    x (batch, height, width, channels) -> y (batch, height', width', channels). NaN is the largest.
    The gradient goes to the first of equal maxima in row-major order, as in torch.

    Args:
        window: Size of the window in pixels: one int, or (height, width).
        stride: Pixels from one window to the next; the size of the window if None.
        padding: "VALID" for none, "SAME" for ⌈size / stride⌉ outputs, an int for every side, or
            ((top, bottom), (left, right)). Padding is never the maximum.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: x has another rank, or is smaller than the window.
        DTypeError: x is not floating-point.
    """
    return _window_pool("max_pool", 2, pool.max_pool, window, stride, padding)


@maker
def max_pool_1d(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
) -> Layer:
    """Max pooling of signals, x (batch, length, channels) -> y (batch, length', channels).

    Args:
        window: Length of the window.
        stride: Steps from one window to the next; the length of the window if None.
        padding: "VALID", "SAME", an int for both ends, or one pair [(low, high)].

    Raises:
        ConfigError, ShapeError, DTypeError: As `max_pool`.
    """
    return _window_pool("max_pool_1d", 1, pool.max_pool, window, stride, padding)


@maker
def max_pool_3d(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
) -> Layer:
    """Max pooling of volumes, x (batch, depth, height, width, channels) -> y of smaller axes.

    Args:
        window: Size of the window: one int, or (depth, height, width).
        stride: Voxels from one window to the next; the size of the window if None.
        padding: "VALID", "SAME", an int for every side, or one (low, high) pair per axis.

    Raises:
        ConfigError, ShapeError, DTypeError: As `max_pool`.
    """
    return _window_pool("max_pool_3d", 3, pool.max_pool, window, stride, padding)


@maker
def avg_pool(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
) -> Layer:
    """Average pooling of images: the mean of each window, channel by channel.

    x (batch, height, width, channels) -> y (batch, height', width', channels). The mean is over the
    pixels of the image only: padding is not counted.

    Args:
        window: Size of the window in pixels: one int, or (height, width).
        stride: Pixels from one window to the next; the size of the window if None.
        padding: "VALID" for none, "SAME" for ⌈size / stride⌉ outputs, an int for every side, or
            ((top, bottom), (left, right)).

    Raises:
        ConfigError: An option is out of range.
        ShapeError: x has another rank, or is smaller than the window.
        DTypeError: x is not floating-point.
    """
    return _window_pool("avg_pool", 2, pool.avg_pool, window, stride, padding)


@maker
def avg_pool_1d(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
) -> Layer:
    """Average pooling of signals, x (batch, length, channels) -> y (batch, length', channels).

    Args:
        window: Length of the window.
        stride: Steps from one window to the next; the length of the window if None.
        padding: "VALID", "SAME", an int for both ends, or one pair [(low, high)]; not counted.

    Raises:
        ConfigError, ShapeError, DTypeError: As `avg_pool`.
    """
    return _window_pool("avg_pool_1d", 1, pool.avg_pool, window, stride, padding)


@maker
def avg_pool_3d(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
) -> Layer:
    """Average pooling of volumes, x (batch, depth, height, width, channels) -> y of smaller axes.

    Args:
        window: Size of the window: one int, or (depth, height, width).
        stride: Voxels from one window to the next; the size of the window if None.
        padding: "VALID", "SAME", an int for every side, or one (low, high) pair per axis; it is
            not counted.

    Raises:
        ConfigError, ShapeError, DTypeError: As `avg_pool`.
    """
    return _window_pool("avg_pool_3d", 3, pool.avg_pool, window, stride, padding)


@maker
def global_max_pool() -> Layer:
    """Global max pooling: the largest value of a whole signal, image or volume in each channel.

    x (batch, ..., channels) -> y (batch, channels). NaN is the largest. The gradient goes to the
    first of equal maxima.

    Raises:
        ShapeError: x has no axis between batch and channels, or an empty one.
        DTypeError: x is not floating-point.
    """

    def global_max(x: jax.Array) -> jax.Array:
        # (batch, positions, channels)
        batch, *image, channels = x.shape
        flat = x.reshape(batch, prod(image), channels)
        index = jax.lax.broadcasted_iota(int, flat.shape, 1)
        # A selection by comparison, since its gradient needs no scatter; argmax finds NaN first.
        is_first_max = index == flat.argmax(1, keepdims=True)
        return jnp.where(is_first_max, flat, 0).sum(1)

    return _global_pool("global_max_pool", global_max)


@maker
def global_avg_pool() -> Layer:
    """Global average pooling: the mean of a whole signal, image or volume in each channel.

    x (batch, ..., channels) -> y (batch, channels) [Lin et al. 2013, arXiv:1312.4400].

    Raises:
        ShapeError: x has no axis between batch and channels, or an empty one.
        DTypeError: x is not floating-point.
    """

    def global_mean(x: jax.Array) -> jax.Array:
        # All axes between the batch and the channels.
        positions = tuple(range(1, x.ndim - 1))
        return x.mean(positions)

    return _global_pool("global_avg_pool", global_mean)


def _window_pool(
    where: str,
    axes: int,
    reduce: Callable[..., jax.Array],
    window: Sizes,
    stride: Sizes | None,
    padding: Padding,
) -> Layer:
    size = checks.each(f"{where} window", window, axes)
    strides = size  # windows side by side
    if stride is not None:
        strides = checks.each(f"{where} stride", stride, axes)
    padding = check_padding(where, padding, axes)
    no_dilation = (1,) * axes
    windows = Windows(where, size, strides, padding, no_dilation)

    def out_shape(shape: Shape) -> Shape:
        *image, channels = checks.image_shape(where, shape, axes)
        return *windows.outputs(tuple(image)), channels

    def pool_batch(x: jax.Array) -> jax.Array:
        checks.image_batch(f"{where} x", x, axes)
        out_shape(x.shape[1:])  # raises where the window is larger than the image
        image = x.shape[1:-1]
        pads = windows.pads(image)
        return reduce(x, size, strides, pads)  # (batch, *outputs, channels)

    return stateless(where, out_shape, pool_batch)


def _global_pool(where: str, reduce: Callable[[jax.Array], jax.Array]) -> Layer:
    def out_shape(shape: Shape) -> Shape:
        if len(shape) < 2:
            expected = "a shape (..., channels) of at least one position"
            advice = "give each example positions and channels, such as (height, width, channels)"
            raise ShapeError(where, expected, tuple(shape), advice)
        expect_pixels(where, shape)
        return shape[-1:]

    def pool_batch(x: jax.Array) -> jax.Array:
        checks.floating(f"{where} x", x)
        out_shape(x.shape[1:])
        return reduce(x)

    return stateless(where, out_shape, pool_batch)


def expect_pixels(where: str, shape: Shape) -> None:
    """Raise ShapeError if an example of this shape has no pixel."""
    image = shape[:-1]
    if 0 in image:
        advice = "an empty image has no largest value and no mean"
        raise ShapeError(where, "at least one pixel", tuple(shape), advice)


@maker
def adaptive_max_pool(size: Sizes) -> Layer:
    """Adaptive max pooling: the largest value of each of a given number of regions.

    x (batch, height, width, channels) -> y (batch, *size, channels). Along an axis of n pixels,
    region i of m begins at ⌊i n / m⌋ and ends before ⌈(i + 1) n / m⌉, as in torch: regions overlap
    where m does not divide n. The gradient goes to the first of equal maxima.

    Args:
        size: Regions along each axis: one int, or (height, width).

    Raises:
        ConfigError: `size` is not positive.
        ShapeError: x has another rank or no pixel.
        DTypeError: x is not floating-point.
    """
    return _adaptive_pool("adaptive_max_pool", pool.adaptive_max_pool, size)


@maker
def adaptive_avg_pool(size: Sizes) -> Layer:
    """Adaptive average pooling: the mean of each of a given number of regions.

    x (batch, height, width, channels) -> y (batch, *size, channels), with the regions of
    `adaptive_max_pool`.

    Args:
        size: Regions along each axis: one int, or (height, width).

    Raises:
        ConfigError, ShapeError, DTypeError: As `adaptive_max_pool`.
    """
    return _adaptive_pool("adaptive_avg_pool", pool.adaptive_avg_pool, size)


def _adaptive_pool(
    where: str,
    reduce: Callable[..., jax.Array],
    size: Sizes,
) -> Layer:
    sizes = checks.pair(f"{where} size", size)

    def out_shape(shape: Shape) -> Shape:
        checks.image_shape(where, shape)
        expect_pixels(where, shape)
        channels = shape[-1]
        return *sizes, channels

    def pool_batch(x: jax.Array) -> jax.Array:
        checks.image_batch(f"{where} x", x)
        out_shape(x.shape[1:])
        return reduce(x, sizes)

    return stateless(where, out_shape, pool_batch)
