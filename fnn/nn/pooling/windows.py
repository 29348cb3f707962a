"""Pooling layers: a window, or a whole image, becomes one value a channel."""

from collections.abc import Callable, Sequence

import jax

from fnn import checks
from fnn.nn.geometry import Padding, check_padding, pad_pairs, window_count
from fnn.nn.kernels import pooling
from fnn.nn.plain import plain
from fnn.types import Layer, Shape


def max_pool(
    window: int | Sequence[int] = 2, *, stride: int | Sequence[int] | None = None, padding: Padding = "VALID"
) -> Layer:
    """The largest value of each window, channel by channel; in the gradient the first of equals wins.

    x (batch, height, width, channels) -> y (batch, height', width', channels); stride is the window unless given.
    ConfigError for an option out of range; ShapeError for a window larger than the padded image.
    """
    return _pool("max_pool", pooling.max_pool, window, stride, padding)


def avg_pool(
    window: int | Sequence[int] = 2, *, stride: int | Sequence[int] | None = None, padding: Padding = "VALID"
) -> Layer:
    """The mean of each window, channel by channel; padding does not count.

    x (batch, height, width, channels) -> y (batch, height', width', channels); stride is the window unless given.
    ConfigError for an option out of range; ShapeError for a window larger than the padded image.
    """
    return _pool("avg_pool", pooling.avg_pool, window, stride, padding)


def global_avg_pool() -> Layer:
    """The mean of each whole image, channel by channel [Lin et al. 2013, arXiv:1312.4400].

    x (batch, height, width, channels) -> y (batch, channels).
    """

    def out_shape(shape: Shape) -> Shape:
        return checks.image_shape("global_avg_pool", shape)[-1:]

    return plain("global_avg_pool", out_shape, lambda x: checks.image_batch("global_avg_pool x", x).mean((1, 2)))


def _pool(
    where: str,
    reduce: Callable[..., jax.Array],
    window: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: Padding,
) -> Layer:
    size = checks.pair(f"{where} window", window)
    strides = size if stride is None else checks.pair(f"{where} stride", stride)
    padding = check_padding(where, padding)

    def out_shape(shape: Shape) -> Shape:
        return *window_count(where, checks.image_shape(where, shape)[:2], size, strides, padding), shape[-1]

    def pool(x: jax.Array) -> jax.Array:
        out_shape(checks.image_batch(f"{where} x", x).shape[1:])
        return reduce(x, size, strides, pad_pairs(padding, x.shape[1:3], size, strides))

    return plain(where, out_shape, pool)
