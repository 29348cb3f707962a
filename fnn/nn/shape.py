"""Layers that change shapes: flatten, reshape, transpose, pad, crop and upsample."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.stateless import plain
from fnn.nn.core.windows import Pairs, Sizes
from fnn.types import Layer, Number, Shape
from fnn.values import maker


@maker
def flatten() -> Layer:
    """Each example as one vector: x (batch, ...) -> y (batch, features)."""
    return plain(
        "flatten", lambda shape: (prod(shape),), lambda x: x.reshape(x.shape[0], prod(x.shape[1:]))
    )


@maker
def reshape(shape: Sequence[int]) -> Layer:
    """Each example in another shape, row by row: x (batch, ...) -> y (batch, *shape).

    One size may be -1, which is then what the others leave. ConfigError for what is no shape; ShapeError for an example
    of another number of elements.
    """
    sizes = _whole_numbers("reshape shape", shape, -1)
    if sizes.count(-1) > 1:
        raise ConfigError("reshape shape", "at most one -1", sizes, "tell all sizes but one")
    known = prod(size for size in sizes if size != -1)

    def out_shape(shape: Shape) -> Shape:
        count = prod(shape)
        if (count % known if known else True) if -1 in sizes else count != known:
            raise ShapeError(
                "reshape",
                f"an example of {sizes}",
                tuple(shape),
                "leave the batch axis out of the sizes",
            )
        return tuple(count // known if size == -1 else size for size in sizes)

    return _moved("reshape", out_shape, lambda x, out: x.reshape(x.shape[0], *out))


@maker
def transpose(axes: Sequence[int]) -> Layer:
    """The axes of each example in another order: axis i of y is axis axes[i] of x, the batch not counted.

    x (batch, ...) -> y (batch, ...). ConfigError unless the axes are 0, 1, ... in some order; ShapeError for an example
    of another number of axes.
    """
    order = _whole_numbers("transpose axes", axes, 0)
    if sorted(order) != list(range(len(order))):
        raise ConfigError(
            "transpose axes", "each of 0, 1, ... once", order, "count them without the batch axis"
        )

    def out_shape(shape: Shape) -> Shape:
        if len(shape) != len(order):
            raise ShapeError(
                "transpose", f"an example of {len(order)} axes", tuple(shape), "name each axis once"
            )
        return tuple(shape[axis] for axis in order)

    return _moved(
        "transpose", out_shape, lambda x, out: x.transpose(0, *(axis + 1 for axis in order))
    )


def _moved(
    name: str, out_shape: Callable[[Shape], Shape], move: Callable[[jax.Array, Shape], jax.Array]
) -> Layer:
    """A layer y = move(x, shape of y without the batch axis), which checks the shape of x first."""
    return plain(name, out_shape, lambda x: move(x, out_shape(x.shape[1:])))


def _whole_numbers(where: str, numbers: Any, minimum: int) -> Shape:
    if isinstance(numbers, str) or not isinstance(numbers, Sequence):
        raise ConfigError(
            where, "a tuple of ints", repr(numbers), "such as (4, -1), without the batch axis"
        )
    return tuple(checks.whole(where, number, minimum) for number in numbers)


MODES = ("constant", "reflect", "edge")
Border = int | Sequence[tuple[int, int]]


@maker
def pad(padding: Border, *, mode: str = "constant", value: Number = 0.0) -> Layer:
    """Each image with a border around it: of one `value`, of its mirror image ("reflect") or of its outermost pixels.

    x (batch, height, width, channels) -> y (batch, low + height + high, low + width + high, channels); the padding is
    an int, or a (low, high) pair an axis: one pair pads signals (batch, length, channels), and three pad volumes. The
    mirror stands on the outermost pixels, which are not repeated. ConfigError for an option out of range; ShapeError
    for an image too small to be mirrored.
    """
    pairs = _pairs("pad", padding)
    checks.number("pad value", value, "[-inf, inf]")
    checks.choice("pad mode", mode, MODES)
    least = [
        max(pair) + 1 if mode == "reflect" else int(mode == "edge" and any(pair)) for pair in pairs
    ]

    def out_shape(shape: Shape) -> Shape:
        *places, channels = checks.image_shape("pad", shape, len(pairs))
        if any(n < minimum for n, minimum in zip(places, least, strict=True)):
            advice = "pad less, or by a constant"
            raise ShapeError(
                "pad",
                f"at least {tuple(least)} pixels to take the border from",
                tuple(places),
                advice,
            )
        return *(low + n + high for n, (low, high) in zip(places, pairs, strict=True)), channels

    def padded(x: jax.Array) -> jax.Array:
        out_shape(checks.image_batch("pad x", x, len(pairs)).shape[1:])
        if mode != "constant":
            return jnp.pad(x, ((0, 0), *pairs, (0, 0)), mode)
        widths = ((0, 0, 0), *((low, high, 0) for low, high in pairs), (0, 0, 0))
        return jax.lax.pad(x, jnp.asarray(trees.knob(value, x), x.dtype), widths)

    return plain("pad", out_shape, padded)


@maker
def crop(border: Border) -> Layer:
    """Each image without its border, what `pad` added.

    x (batch, height, width, channels) -> y (batch, height - low - high, width - low - high, channels), the border told
    as to `pad`. ConfigError for an option out of range; ShapeError for an image of which nothing would be left.
    """
    pairs = _pairs("crop", border, "border")

    def out_shape(shape: Shape) -> Shape:
        *places, channels = checks.image_shape("crop", shape, len(pairs))
        left = [n - low - high for n, (low, high) in zip(places, pairs, strict=True)]
        if min(left) < 1:
            expected = f"more than {tuple(map(sum, pairs))} pixels"
            raise ShapeError("crop", expected, tuple(places), "crop less")
        return *left, channels

    def cropped(x: jax.Array) -> jax.Array:
        out_shape(checks.image_batch("crop x", x, len(pairs)).shape[1:])
        inner = (slice(low, n - high) for n, (low, high) in zip(x.shape[1:], pairs, strict=False))
        return x[:, *inner]

    return plain("crop", out_shape, cropped)


def _pairs(where: str, border: Border, name: str = "padding") -> Pairs:
    where = f"{where} {name}"
    if not isinstance(border, Sequence):
        return ((checks.whole(where, border, 0),) * 2,) * 2
    if isinstance(border, str) or not 1 <= len(border) <= 3:
        raise ConfigError(
            where, "an int, or a (low, high) pair for one to three axes", repr(border), "try 1"
        )
    return tuple(checks.pair(where, pair, 0) for pair in border)


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
            raise ShapeError(
                "upsample", "at least one pixel", tuple(shape), "give the image pixels"
            )
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
    first, last = (
        jax.lax.slice_in_dim(x, start, start + 1, axis=axis) for start in (0, x.shape[axis] - 1)
    )
    before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, -1, axis=axis)], axis)
    after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, None, axis=axis), last], axis)
    beside = [(phase + 0.5) / times - 0.5 for phase in range(times)]
    return [x * (1 - abs(part)) + (before if part < 0 else after) * abs(part) for part in beside]


METHODS = {"nearest": _repeated, "bilinear": _between}


def _interleaved(phases: list[jax.Array], axis: int) -> jax.Array:
    """Every phase's pixels in turn: (..., n, ...) each -> (..., n phases, ...)."""
    shape = phases[0].shape
    return jnp.stack(phases, axis + 1).reshape(
        *shape[:axis], shape[axis] * len(phases), *shape[axis + 1 :]
    )
