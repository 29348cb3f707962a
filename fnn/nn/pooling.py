"""Pooling over windows, over adaptive regions and over all positions."""

from collections.abc import Callable
from math import prod

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ShapeError
from fnn.nn.core.stateless import plain
from fnn.nn.core.windows import Padding, Sizes, Windows, check_padding
from fnn.nn.kernels import pool
from fnn.types import Layer, Shape
from fnn.values import maker


@maker
def max_pool(
    window: Sizes = 2, *, stride: Sizes | None = None, padding: Padding = "VALID"
) -> Layer:
    """The largest value of each window, channel by channel; in the gradient the first of equals wins.

    x (batch, height, width, channels) -> y (batch, height', width', channels); stride is the window unless given.
    ConfigError for an option out of range; ShapeError for a window larger than the padded image.
    """
    return _pool("max_pool", 2, pool.max_pool, window, stride, padding)


@maker
def max_pool_1d(
    window: Sizes = 2, *, stride: Sizes | None = None, padding: Padding = "VALID"
) -> Layer:
    """The largest value of each window, channel by channel: x (batch, length, channels), else as `max_pool`."""
    return _pool("max_pool_1d", 1, pool.max_pool, window, stride, padding)


@maker
def max_pool_3d(
    window: Sizes = 2, *, stride: Sizes | None = None, padding: Padding = "VALID"
) -> Layer:
    """The largest value of each window: x (batch, depth, height, width, channels), else as `max_pool`."""
    return _pool("max_pool_3d", 3, pool.max_pool, window, stride, padding)


@maker
def avg_pool(
    window: Sizes = 2, *, stride: Sizes | None = None, padding: Padding = "VALID"
) -> Layer:
    """The mean of each window, channel by channel; padding does not count.

    x (batch, height, width, channels) -> y (batch, height', width', channels); stride is the window unless given.
    ConfigError for an option out of range; ShapeError for a window larger than the padded image.
    """
    return _pool("avg_pool", 2, pool.avg_pool, window, stride, padding)


@maker
def avg_pool_1d(
    window: Sizes = 2, *, stride: Sizes | None = None, padding: Padding = "VALID"
) -> Layer:
    """The mean of each window, channel by channel: x (batch, length, channels), else as `avg_pool`."""
    return _pool("avg_pool_1d", 1, pool.avg_pool, window, stride, padding)


@maker
def avg_pool_3d(
    window: Sizes = 2, *, stride: Sizes | None = None, padding: Padding = "VALID"
) -> Layer:
    """The mean of each window, channel by channel: x (batch, depth, height, width, channels), else as `avg_pool`."""
    return _pool("avg_pool_3d", 3, pool.avg_pool, window, stride, padding)


@maker
def global_max_pool() -> Layer:
    """The largest value of each whole signal, image or volume, channel by channel; the first of equals wins.

    x (batch, ..., channels) -> y (batch, channels). ShapeError for what has no axis between batch and channels, or an
    empty one.
    """

    def largest(x: jax.Array) -> jax.Array:
        flat = x.reshape(x.shape[0], prod(x.shape[1:-1]), x.shape[-1])
        place = jax.lax.broadcasted_iota(int, flat.shape, 1)
        # A choice by comparison, whose gradient scatters nothing; NaN is the largest.
        return jnp.where(place == flat.argmax(1, keepdims=True), flat, 0).sum(1)

    return _whole("global_max_pool", largest)


@maker
def global_avg_pool() -> Layer:
    """The mean of each whole signal, image or volume, channel by channel [Lin et al. 2013, arXiv:1312.4400].

    x (batch, ..., channels) -> y (batch, channels). ShapeError for what has no axis between batch and channels, or an
    empty one.
    """
    return _whole("global_avg_pool", lambda x: x.mean(tuple(range(1, x.ndim - 1))))


def _pool(
    where: str,
    axes: int,
    reduce: Callable[..., jax.Array],
    window: Sizes,
    stride: Sizes | None,
    padding: Padding,
) -> Layer:
    size = checks.each(f"{where} window", window, axes)
    strides = size if stride is None else checks.each(f"{where} stride", stride, axes)
    sliding = Windows(where, size, strides, check_padding(where, padding, axes), (1,) * axes)

    def out_shape(shape: Shape) -> Shape:
        return *sliding.outputs(checks.image_shape(where, shape, axes)[:-1]), shape[-1]

    def pool(x: jax.Array) -> jax.Array:
        out_shape(checks.image_batch(f"{where} x", x, axes).shape[1:])
        return reduce(x, size, strides, sliding.pads(x.shape[1:-1]))

    return plain(where, out_shape, pool)


def _whole(where: str, reduce: Callable[[jax.Array], jax.Array]) -> Layer:
    def out_shape(shape: Shape) -> Shape:
        if len(shape) < 2:
            advice = "give each example places and channels, such as (height, width, channels)"
            raise ShapeError(
                where, "a shape (..., channels) of at least one place", tuple(shape), advice
            )
        return expect_pixels(where, shape)[-1:]

    def pool(x: jax.Array) -> jax.Array:
        out_shape(checks.floating(f"{where} x", x).shape[1:])
        return reduce(x)

    return plain(where, out_shape, pool)


def expect_pixels(where: str, shape: Shape) -> Shape:
    """The shape of an example, if it has any pixel; ShapeError otherwise."""
    if 0 in shape[:-1]:
        raise ShapeError(
            where,
            "at least one pixel",
            tuple(shape),
            "an empty image has no largest value and no mean",
        )
    return shape


@maker
def adaptive_max_pool(size: Sizes) -> Layer:
    """The largest value of each of `size` regions an axis, channel by channel; the first of equals takes the gradient.

    x (batch, height, width, channels) -> y (batch, *size, channels); of n pixels region i of m begins at ⌊i n / m⌋ and
    ends before ⌈(i + 1) n / m⌉, as in torch: where m does not divide n they overlap. ConfigError for a size below 1.
    """
    return _adaptive("adaptive_max_pool", pool.adaptive_max_pool, size)


@maker
def adaptive_avg_pool(size: Sizes) -> Layer:
    """The mean of each of `size` regions an axis, channel by channel.

    x (batch, height, width, channels) -> y (batch, *size, channels), the regions as in `adaptive_max_pool`.
    """
    return _adaptive("adaptive_avg_pool", pool.adaptive_avg_pool, size)


def _adaptive(where: str, reduce: Callable[..., jax.Array], size: Sizes) -> Layer:
    sizes = checks.pair(f"{where} size", size)

    def out_shape(shape: Shape) -> Shape:
        return *sizes, expect_pixels(where, checks.image_shape(where, shape))[-1]

    def pool(x: jax.Array) -> jax.Array:
        out_shape(checks.image_batch(f"{where} x", x).shape[1:])
        return reduce(x, sizes)

    return plain(where, out_shape, pool)
