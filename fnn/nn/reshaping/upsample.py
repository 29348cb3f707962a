"""An image with more pixels."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.geometry import Sizes
from fnn.nn.plain import plain
from fnn.types import Layer, Shape
from fnn.values import maker


@maker
def upsample(factor: Sizes = 2, *, method: str = "nearest") -> Layer:
    """Each image with `factor` times as many pixels an axis: each one repeated, or lines drawn between neighbors.

    x (batch, height, width, channels) -> y (batch, factor height, factor width, channels). "bilinear" measures from the
    pixels' centers, y_i lying at (i + 1/2) / factor - 1/2 of x, and goes on flat beyond the outermost, as torch does
    with align_corners=False. ConfigError for an option out of range; ShapeError or DTypeError for what is no image.
    """
    factors = checks.pair("upsample factor", factor)
    along = METHODS[checks.choice("upsample method", method, list(METHODS))]

    def out_shape(shape: Shape) -> Shape:
        height, width, channels = checks.image_shape("upsample", shape)
        if 0 in (height, width):
            raise ShapeError("upsample", "at least one pixel", tuple(shape), "give the image pixels")
        return height * factors[0], width * factors[1], channels

    def upsampled(x: jax.Array) -> jax.Array:
        out_shape(checks.image_batch("upsample x", x).shape[1:])
        y = x.astype(trees.wide(x))
        for axis, times in enumerate(factors, 1):
            y = _interleaved(along(y, axis, times), axis)
        return y.astype(x.dtype)

    return plain("upsample", out_shape, upsampled)


def _repeated(x: jax.Array, axis: int, times: int) -> list[jax.Array]:
    return [x] * times


def _between(x: jax.Array, axis: int, times: int) -> list[jax.Array]:
    """Phase p of y lies (p + 1/2) / times - 1/2 beside each pixel of x: part of it, part of the neighbor's there."""
    first, last = (jax.lax.slice_in_dim(x, start, start + 1, axis=axis) for start in (0, x.shape[axis] - 1))
    before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, -1, axis=axis)], axis)
    after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, None, axis=axis), last], axis)
    beside = [(phase + 0.5) / times - 0.5 for phase in range(times)]
    return [x * (1 - abs(part)) + (before if part < 0 else after) * abs(part) for part in beside]


METHODS = {"nearest": _repeated, "bilinear": _between}


def _interleaved(phases: list[jax.Array], axis: int) -> jax.Array:
    """Every phase's pixels in turn: (..., n, ...) each -> (..., n phases, ...)."""
    shape = phases[0].shape
    return jnp.stack(phases, axis + 1).reshape(*shape[:axis], shape[axis] * len(phases), *shape[axis + 1 :])
