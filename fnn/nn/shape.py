"""Layers that change shapes: flatten, reshape, transpose, pad and crop."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.stateless import stateless
from fnn.nn.core.windows import Pairs
from fnn.types import Layer, Number, Shape
from fnn.values import maker

Border = int | Sequence[tuple[int, int]]

PAD_MODES = ("constant", "reflect", "edge")


@maker
def flatten() -> Layer:
    """Flatten each example into a vector: x (batch, ...) -> y (batch, features)."""

    def out_shape(shape: Shape) -> Shape:
        return (prod(shape),)

    def flat(x: jax.Array) -> jax.Array:
        # The size is given, since -1 is ambiguous for an empty batch.
        return x.reshape(x.shape[0], prod(x.shape[1:]))

    return stateless("flatten", out_shape, flat)


@maker
def reshape(shape: Sequence[int]) -> Layer:
    """Reshape each example, in row-major order: x (batch, ...) -> y (batch, *shape).

    Args:
        shape: New sizes, without the batch axis. One of them may be -1: it follows from the others.

    Raises:
        ConfigError: `shape` is not a sequence of whole numbers >= -1 with at most one -1.
        ShapeError: An example has another number of elements.
    """
    # Numbers are static: they determine the shapes of a compiled program.
    sizes = _whole_numbers("reshape shape", shape, -1)
    if sizes.count(-1) > 1:
        raise ConfigError(
            "reshape shape",
            "at most one -1",
            sizes,
            "give all sizes but one",
        )
    # The elements of an example divided by `known` are the size of -1.
    known = prod(size for size in sizes if size != -1)

    def out_shape(shape: Shape) -> Shape:
        count = prod(shape)
        if not _is_reshapable(count, sizes, known):
            raise ShapeError(
                "reshape",
                f"an example of {sizes}",
                tuple(shape),
                "leave the batch axis out of the sizes",
            )
        return tuple(count // known if size == -1 else size for size in sizes)

    return _reordered("reshape", out_shape, lambda x, out: x.reshape(x.shape[0], *out))


@maker
def transpose(axes: Sequence[int]) -> Layer:
    """Permute the axes of each example: axis i of y is axis axes[i] of x.

    x (batch, ...) -> y (batch, ...); the batch axis stays first and is not counted.

    Args:
        axes: A permutation of 0, 1, ..., with one entry for each axis of an example.

    Raises:
        ConfigError: `axes` is not a permutation.
        ShapeError: An example has another number of axes.
    """
    # Axes count from 0 within an example, so that none can name the batch axis.
    order = _whole_numbers("transpose axes", axes, 0)
    if sorted(order) != list(range(len(order))):
        raise ConfigError(
            "transpose axes",
            "each of 0, 1, ... once",
            order,
            "count them without the batch axis",
        )
    # The axes of an example begin at 1 in the batch.
    batch_order = (0, *(axis + 1 for axis in order))

    def out_shape(shape: Shape) -> Shape:
        if len(shape) != len(order):
            raise ShapeError(
                "transpose",
                f"an example of {len(order)} axes",
                tuple(shape),
                "name each axis once",
            )
        return tuple(shape[axis] for axis in order)

    return _reordered("transpose", out_shape, lambda x, out: x.transpose(*batch_order))


@maker
def pad(
    padding: Border,
    *,
    mode: str = "constant",
    value: Number = 0.0,
) -> Layer:
    """Pad each image, signal or volume.

    x (batch, height, width, channels) -> y (batch, low + height + high, low + width + high,
    channels). Signals are (batch, length, channels), volumes (batch, depth, height, width,
    channels).

    Args:
        padding: Pixels on each side of height and width, or a (low, high) pair for each axis: one
            pair for signals, two for images, three for volumes.
        mode: "constant", "reflect" (the mirror image, without repeating the outermost pixel) or
            "edge" (the outermost pixel).
        value: Value of the border for mode="constant".

    Raises:
        ConfigError: An option is out of range.
        ShapeError: An image is too small to be mirrored or repeated.
        DTypeError: x is not of floating point.
    """
    pairs = _border_pairs("pad padding", padding)
    checks.number("pad value", value, "[-inf, inf]")
    checks.choice("pad mode", mode, PAD_MODES)
    required = [_required_size(mode, pair) for pair in pairs]

    def out_shape(shape: Shape) -> Shape:
        # `image` holds the sizes of all axes between batch and channels.
        *image, channels = checks.image_shape("pad", shape, len(pairs))
        if any(size < minimum for size, minimum in zip(image, required, strict=True)):
            raise ShapeError(
                "pad",
                f"at least {tuple(required)} pixels to take the border from",
                tuple(image),
                "pad less, or by a constant",
            )
        padded = [low + size + high for size, (low, high) in zip(image, pairs, strict=True)]
        return *padded, channels

    def apply(x: jax.Array) -> jax.Array:
        checks.image_batch("pad x", x, len(pairs))
        out_shape(x.shape[1:])
        if mode != "constant":
            # (low, high) for batch, image axes and channels
            return jnp.pad(x, ((0, 0), *pairs, (0, 0)), mode)
        # lax.pad takes a traced value in the dtype of x, and (low, high, interior) for each axis.
        widths = ((0, 0, 0), *((low, high, 0) for low, high in pairs), (0, 0, 0))
        fill = jnp.asarray(trees.knob(value, x), x.dtype)
        return jax.lax.pad(x, fill, widths)

    return stateless("pad", out_shape, apply)


@maker
def crop(border: Border) -> Layer:
    """Remove the border of each image, signal or volume: the inverse of `pad`.

    x (batch, height, width, channels) -> y (batch, height - low - high, width - low - high,
    channels).

    Args:
        border: Pixels on each side of height and width, or a (low, high) pair for each axis, as for
            `pad`.

    Raises:
        ConfigError: `border` is out of range.
        ShapeError: An image has no pixel inside of the border.
        DTypeError: x is not of floating point.
    """
    pairs = _border_pairs("crop border", border)

    def out_shape(shape: Shape) -> Shape:
        *image, channels = checks.image_shape("crop", shape, len(pairs))
        cropped = [size - low - high for size, (low, high) in zip(image, pairs, strict=True)]
        # An empty image would fail in the next layer, with an obscure error.
        if min(cropped) < 1:
            raise ShapeError(
                "crop",
                f"more than {tuple(map(sum, pairs))} pixels",
                tuple(image),
                "crop less",
            )
        return *cropped, channels

    def apply(x: jax.Array) -> jax.Array:
        checks.image_batch("crop x", x, len(pairs))
        out_shape(x.shape[1:])
        image = x.shape[1:-1]
        # `size - high` instead of `-high`, which would be empty for high = 0.
        inner = [slice(low, size - high) for size, (low, high) in zip(image, pairs, strict=True)]
        return x[:, *inner]

    return stateless("crop", out_shape, apply)


def _reordered(
    name: str,
    out_shape: Callable[[Shape], Shape],
    reorder: Callable[[jax.Array, Shape], jax.Array],
) -> Layer:
    """Make a layer y = reorder(x, shape of an example of y), which checks the shape of x first."""

    def apply(x: jax.Array) -> jax.Array:
        return reorder(x, out_shape(x.shape[1:]))

    return stateless(name, out_shape, apply)


def _is_reshapable(count: int, sizes: Shape, known: int) -> bool:
    """Whether `count` elements have the sizes, of which those other than -1 multiply to `known`."""
    if -1 not in sizes:
        return count == known
    # With a known size of 0 the size of -1 would be undetermined.
    return known != 0 and count % known == 0


def _whole_numbers(where: str, numbers: Any, minimum: int) -> Shape:
    # A str is a sequence too.
    if isinstance(numbers, str) or not isinstance(numbers, Sequence):
        raise ConfigError(
            where,
            "a tuple of ints",
            repr(numbers),
            "such as (4, -1), without the batch axis",
        )
    return tuple(checks.whole(where, number, minimum) for number in numbers)


def _border_pairs(where: str, border: Border) -> Pairs:
    """Return a border as (low, high) for each axis; an int means that of an image."""
    if not isinstance(border, Sequence):
        width = checks.whole(where, border, 0)
        return (width, width), (width, width)
    if isinstance(border, str) or not 1 <= len(border) <= 3:
        raise ConfigError(
            where,
            "an int, or a (low, high) pair for one to three axes",
            repr(border),
            "try 1",
        )
    return tuple(checks.pair(where, pair, 0) for pair in border)


def _required_size(mode: str, pair: tuple[int, int]) -> int:
    """Return the least number of pixels along an axis that the border can be taken from."""
    if mode == "reflect":
        return max(pair) + 1  # the outermost pixel is the mirror, and not repeated
    if mode == "edge":
        return int(any(pair))
    return 0
