"""Pooling layers whose windows follow from the size of what comes out."""

from collections.abc import Callable

import jax

from fnn import checks
from fnn.nn.geometry import Sizes
from fnn.nn.kernels import pooling
from fnn.nn.plain import plain
from fnn.nn.pooling.windows import expect_pixels
from fnn.types import Layer, Shape
from fnn.values import maker


@maker
def adaptive_max_pool(size: Sizes) -> Layer:
    """The largest value of each of `size` regions an axis, channel by channel; the first of equals takes the gradient.

    x (batch, height, width, channels) -> y (batch, *size, channels); of n pixels region i of m begins at ⌊i n / m⌋ and
    ends before ⌈(i + 1) n / m⌉, as in torch: where m does not divide n they overlap. ConfigError for a size below 1.
    """
    return _adaptive("adaptive_max_pool", pooling.adaptive_max_pool, size)


@maker
def adaptive_avg_pool(size: Sizes) -> Layer:
    """The mean of each of `size` regions an axis, channel by channel.

    x (batch, height, width, channels) -> y (batch, *size, channels), the regions as in `adaptive_max_pool`.
    """
    return _adaptive("adaptive_avg_pool", pooling.adaptive_avg_pool, size)


def _adaptive(where: str, reduce: Callable[..., jax.Array], size: Sizes) -> Layer:
    sizes = checks.pair(f"{where} size", size)

    def out_shape(shape: Shape) -> Shape:
        return *sizes, expect_pixels(where, checks.image_shape(where, shape))[-1]

    def pool(x: jax.Array) -> jax.Array:
        out_shape(checks.image_batch(f"{where} x", x).shape[1:])
        return reduce(x, sizes)

    return plain(where, out_shape, pool)
