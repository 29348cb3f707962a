"""Pooling over windows, over adaptive regions and over all positions."""

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ShapeError
from fnn.nn.core.stateless import stateless
from fnn.nn.core.windows import Padding, Pairs, Sizes, Windows, check_padding
from fnn.nn.kernels import pool
from fnn.types import Layer, Shape
from fnn.values import maker


@maker
def max_pool(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Layer:
    """Max pooling of images: the largest value of each window, channel by channel.

    x (batch, height, width, channels) -> y (batch, height', width', channels). NaN is the largest.
    The gradient goes to the first of equal maxima in row-major order, as in torch.

    Args:
        window: Size of the window in pixels: one int, or (height, width).
        stride: Pixels from one window to the next; the size of the window if None.
        padding: "VALID" for none, "SAME" for ⌈size / stride⌉ outputs, an int for every side, or
            ((top, bottom), (left, right)). Padding is never the maximum.
        dilation: Pixels from one element of a window to the next: one int, or (height, width).
        ceil_mode: Whether a last window that begins on x but ends beyond it counts, as in torch.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: x has another rank, or is smaller than the window.
        DTypeError: x is not floating-point.
    """
    windows = pool_windows("max_pool", 2, window, stride, padding, dilation, ceil_mode)
    return _max_pool(windows)


@maker
def max_pool_1d(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Layer:
    """Max pooling of signals, x (batch, length, channels) -> y (batch, length', channels).

    Args:
        window: Length of the window.
        stride: Steps from one window to the next; the length of the window if None.
        padding: "VALID", "SAME", an int for both ends, or one pair [(low, high)].
        dilation: Steps from one element of a window to the next.
        ceil_mode: Whether a last window that begins on x but ends beyond it counts, as in torch.

    Raises:
        ConfigError, ShapeError, DTypeError: As `max_pool`.
    """
    windows = pool_windows("max_pool_1d", 1, window, stride, padding, dilation, ceil_mode)
    return _max_pool(windows)


@maker
def max_pool_3d(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Layer:
    """Max pooling of volumes, x (batch, depth, height, width, channels) -> y of smaller axes.

    Args:
        window: Size of the window: one int, or (depth, height, width).
        stride: Voxels from one window to the next; the size of the window if None.
        padding: "VALID", "SAME", an int for every side, or one (low, high) pair per axis.
        dilation: Voxels from one element of a window to the next: one int, or one an axis.
        ceil_mode: Whether a last window that begins on x but ends beyond it counts, as in torch.

    Raises:
        ConfigError, ShapeError, DTypeError: As `max_pool`.
    """
    windows = pool_windows("max_pool_3d", 3, window, stride, padding, dilation, ceil_mode)
    return _max_pool(windows)


@maker
def avg_pool(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Layer:
    """Average pooling of images: the mean of each window, channel by channel.

    x (batch, height, width, channels) -> y (batch, height', width', channels). The mean is over the
    pixels of the image only, unless the padding is counted.

    Args:
        window: Size of the window in pixels: one int, or (height, width).
        stride: Pixels from one window to the next; the size of the window if None.
        padding: "VALID" for none, "SAME" for ⌈size / stride⌉ outputs, an int for every side, or
            ((top, bottom), (left, right)).
        ceil_mode: Whether a last window that begins on x but ends beyond it counts, as in torch.
        count_include_pad: Whether the zeros of the padding count in a mean, as by default in torch.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: x has another rank, or is smaller than the window.
        DTypeError: x is not floating-point.
    """
    windows = pool_windows("avg_pool", 2, window, stride, padding, 1, ceil_mode)
    return _avg_pool(windows, count_include_pad)


@maker
def avg_pool_1d(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Layer:
    """Average pooling of signals, x (batch, length, channels) -> y (batch, length', channels).

    Args:
        window: Length of the window.
        stride: Steps from one window to the next; the length of the window if None.
        padding: "VALID", "SAME", an int for both ends, or one pair [(low, high)].
        ceil_mode: Whether a last window that begins on x but ends beyond it counts, as in torch.
        count_include_pad: Whether the zeros of the padding count in a mean, as by default in torch.

    Raises:
        ConfigError, ShapeError, DTypeError: As `avg_pool`.
    """
    windows = pool_windows("avg_pool_1d", 1, window, stride, padding, 1, ceil_mode)
    return _avg_pool(windows, count_include_pad)


@maker
def avg_pool_3d(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Layer:
    """Average pooling of volumes, x (batch, depth, height, width, channels) -> y of smaller axes.

    Args:
        window: Size of the window: one int, or (depth, height, width).
        stride: Voxels from one window to the next; the size of the window if None.
        padding: "VALID", "SAME", an int for every side, or one (low, high) pair per axis.
        ceil_mode: Whether a last window that begins on x but ends beyond it counts, as in torch.
        count_include_pad: Whether the zeros of the padding count in a mean, as by default in torch.

    Raises:
        ConfigError, ShapeError, DTypeError: As `avg_pool`.
    """
    windows = pool_windows("avg_pool_3d", 3, window, stride, padding, 1, ceil_mode)
    return _avg_pool(windows, count_include_pad)


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


class PoolWindows(NamedTuple):
    """The windows of a pooling.

    Attributes:
        windows: The windows and their padding.
        ceil_mode: Whether a last window that begins on x but ends beyond it counts.
    """

    windows: Windows
    ceil_mode: bool

    def pads(self, image: Shape) -> Pairs:
        """The (low, high) padding of an image of this size, as far as the last window reaches."""
        pairs = self.windows.pads(image)
        if not self.ceil_mode:
            return pairs
        lengthened = []
        axes = zip(image, pairs, self.windows.reach, self.windows.stride, strict=True)
        for size, (low, high), reach, stride in axes:
            # Rounded up, but no window begins beyond x: it would hold padding alone.
            last = -(-(low + size + high - reach) // stride) * stride
            if last >= low + size:
                last -= stride
            lengthened.append((low, max(high, last + reach - low - size)))
        return tuple(lengthened)

    def out_shape(self, shape: Shape) -> Shape:
        """Check the shape of an example and return that of its pooled one."""
        windows = self.windows
        *image, channels = checks.image_shape(windows.where, shape, windows.axes)
        size = tuple(image)
        windows.outputs(size)  # raises where the window is larger than the image
        return *windows._replace(padding=self.pads(size)).outputs(size), channels

    def max_pool(self, x: jax.Array) -> jax.Array:
        """The largest values of the windows of a batch."""
        windows = self.windows
        pads = self.pads(x.shape[1:-1])
        return pool.max_pool(x, windows.size, windows.stride, pads, windows.dilation)


def pool_windows(
    where: str,
    axes: int,
    window: Sizes,
    stride: Sizes | None,
    padding: Padding,
    dilation: Sizes,
    ceil_mode: bool,
) -> PoolWindows:
    size = checks.each(f"{where} window", window, axes)
    strides = size  # windows side by side
    if stride is not None:
        strides = checks.each(f"{where} stride", stride, axes)
    dilations = checks.each(f"{where} dilation", dilation, axes)
    checks.flag(f"{where} ceil_mode", ceil_mode)
    padding = check_padding(where, padding, axes)
    return PoolWindows(Windows(where, size, strides, padding, dilations), ceil_mode)


def _max_pool(pooled: PoolWindows) -> Layer:
    return _window_pool(pooled, pooled.max_pool)


def _avg_pool(pooled: PoolWindows, count_include_pad: bool) -> Layer:
    windows = pooled.windows
    checks.flag(f"{windows.where} count_include_pad", count_include_pad)

    def pool_batch(x: jax.Array) -> jax.Array:
        image = x.shape[1:-1]
        # Beyond the given padding, the last window of `ceil_mode` has no elements in any case.
        counted = windows.pads(image) if count_include_pad else None
        return pool.avg_pool(x, windows.size, windows.stride, pooled.pads(image), counted)

    return _window_pool(pooled, pool_batch)


def _window_pool(
    pooled: PoolWindows,
    reduce: Callable[[jax.Array], jax.Array],
) -> Layer:
    windows = pooled.windows

    def pool_batch(x: jax.Array) -> jax.Array:
        checks.image_batch(f"{windows.where} x", x, windows.axes)
        pooled.out_shape(x.shape[1:])  # raises where the window is larger than the image
        return reduce(x)  # (batch, *outputs, channels)

    return stateless(windows.where, pooled.out_shape, pool_batch)


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
    return _adaptive_pool("adaptive_max_pool", 2, pool.adaptive_max_pool, size)


@maker
def adaptive_max_pool_1d(size: Sizes) -> Layer:
    """Adaptive max pooling of signals, x (batch, length, channels) -> y (batch, size, channels).

    Args:
        size: Number of regions, those of `adaptive_max_pool`.

    Raises:
        ConfigError, ShapeError, DTypeError: As `adaptive_max_pool`.
    """
    return _adaptive_pool("adaptive_max_pool_1d", 1, pool.adaptive_max_pool, size)


@maker
def adaptive_max_pool_3d(size: Sizes) -> Layer:
    """Adaptive max pooling of volumes, x (batch, depth, height, width, channels).

    y (batch, *size, channels), with the regions of `adaptive_max_pool`.

    Args:
        size: Regions along each axis: one int, or (depth, height, width).

    Raises:
        ConfigError, ShapeError, DTypeError: As `adaptive_max_pool`.
    """
    return _adaptive_pool("adaptive_max_pool_3d", 3, pool.adaptive_max_pool, size)


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
    return _adaptive_pool("adaptive_avg_pool", 2, pool.adaptive_avg_pool, size)


@maker
def adaptive_avg_pool_1d(size: Sizes) -> Layer:
    """Adaptive average pooling of signals, x (batch, length, channels).

    y (batch, size, channels), with the regions of `adaptive_max_pool`.

    Args:
        size: Number of regions.

    Raises:
        ConfigError, ShapeError, DTypeError: As `adaptive_max_pool`.
    """
    return _adaptive_pool("adaptive_avg_pool_1d", 1, pool.adaptive_avg_pool, size)


@maker
def adaptive_avg_pool_3d(size: Sizes) -> Layer:
    """Adaptive average pooling of volumes, x (batch, depth, height, width, channels).

    y (batch, *size, channels), with the regions of `adaptive_max_pool`.

    Args:
        size: Regions along each axis: one int, or (depth, height, width).

    Raises:
        ConfigError, ShapeError, DTypeError: As `adaptive_max_pool`.
    """
    return _adaptive_pool("adaptive_avg_pool_3d", 3, pool.adaptive_avg_pool, size)


def _adaptive_pool(
    where: str,
    axes: int,
    reduce: Callable[..., jax.Array],
    size: Sizes,
) -> Layer:
    sizes = checks.each(f"{where} size", size, axes)

    def out_shape(shape: Shape) -> Shape:
        checks.image_shape(where, shape, axes)
        expect_pixels(where, shape)
        channels = shape[-1]
        return *sizes, channels

    def pool_batch(x: jax.Array) -> jax.Array:
        checks.image_batch(f"{where} x", x, axes)
        out_shape(x.shape[1:])
        return reduce(x, sizes)

    return stateless(where, out_shape, pool_batch)
