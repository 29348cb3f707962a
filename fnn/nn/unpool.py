"""Unpooling: values go back to the places of the maxima of a pooling."""

from typing import Any

import jax

from fnn import checks
from fnn.errors import DTypeError, ShapeError
from fnn.nn.core.stateless import stateless
from fnn.nn.core.windows import Padding, Sizes
from fnn.nn.pooling import pool_windows
from fnn.types import Layer, Shape
from fnn.values import maker


@maker
def max_unpool(
    window: Sizes = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Layer:
    """Max unpooling: y = z at the places where x had the maxima of the windows, else 0.

    (z, x), z (batch, height', width', channels) and x (batch, height, width, channels)
    -> y (batch, height, width, channels) [Zeiler et al. 2011; Badrinarayanan et al. 2015,
    arXiv:1511.00561]. It is the transpose of `max_pool` at x, so no indices are passed on. In a
    `graph`, x is the input of the pooling:

        network = nn.graph(
            h=(nn.conv(16), "x"),
            low=(nn.chain(nn.max_pool(), nn.conv(16)), "h"),
            y=(nn.max_unpool(), "low", "h"),
        )

    The first of equal maxima counts. The values of overlapping windows with one maximum are added;
    torch keeps the last one. x takes no gradient.

    Args:
        window: Size of the window in pixels, that of the pooling: one int, or (height, width).
        stride: As for `max_pool`.
        padding: As for `max_pool`.
        dilation: As for `max_pool`.
        ceil_mode: As for `max_pool`.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: z has another shape than the pooled x, or the input is not a pair.
        DTypeError: An array is not floating-point, or z has another dtype than x.
    """
    where = "max_unpool"
    pooled = pool_windows(where, 2, window, stride, padding, dilation, ceil_mode)

    def out_shape(shapes: Any) -> Shape:
        low, high = _pair(where, shapes)
        expected = pooled.out_shape(checks.one_shape(where, high))
        if tuple(low) != expected:
            advice = "give the options of the pooling, and an x of as many channels"
            got = f"{tuple(low)} for x {tuple(high)}"
            raise ShapeError(f"{where} z", f"the shape of the pooled x, {expected}", got, advice)
        return tuple(high)

    def unpool(arrays: Any) -> jax.Array:
        z, x = _pair(where, arrays)
        checks.image_batch(f"{where} z", z)
        checks.image_batch(f"{where} x", x)
        out_shape((z.shape[1:], x.shape[1:]))
        if z.dtype != x.dtype:
            raise DTypeError(f"{where} z", f"{x.dtype} as x", z.dtype, "convert one of them")
        # x chooses places alone, which are constant around almost all x.
        _, transpose = jax.vjp(pooled.max_pool, jax.lax.stop_gradient(x))
        (y,) = transpose(z)
        return y

    return stateless(where, out_shape, unpool, several=True)


def _pair(where: str, value: Any) -> tuple[Any, Any]:
    if checks.is_one_shape(value) or not isinstance(value, tuple | list) or len(value) != 2:
        advice = 'as in a graph, y=(nn.max_unpool(), "z", "x")'
        raise ShapeError(where, "a pair (z, x)", checks.describe_tree(value), advice)
    return value[0], value[1]
