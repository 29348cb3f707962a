"""An example in another shape."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.nn.plain import plain
from fnn.types import Layer, Shape
from fnn.values import maker


@maker
def flatten() -> Layer:
    """Each example as one vector: x (batch, ...) -> y (batch, features)."""
    return plain("flatten", lambda shape: (prod(shape),), lambda x: x.reshape(x.shape[0], prod(x.shape[1:])))


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
            raise ShapeError("reshape", f"an example of {sizes}", tuple(shape), "leave the batch axis out of the sizes")
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
        raise ConfigError("transpose axes", "each of 0, 1, ... once", order, "count them without the batch axis")

    def out_shape(shape: Shape) -> Shape:
        if len(shape) != len(order):
            raise ShapeError("transpose", f"an example of {len(order)} axes", tuple(shape), "name each axis once")
        return tuple(shape[axis] for axis in order)

    return _moved("transpose", out_shape, lambda x, out: x.transpose(0, *(axis + 1 for axis in order)))


def _moved(name: str, out_shape: Callable[[Shape], Shape], move: Callable[[jax.Array, Shape], jax.Array]) -> Layer:
    """A layer y = move(x, shape of y without the batch axis), which checks the shape of x first."""
    return plain(name, out_shape, lambda x: move(x, out_shape(x.shape[1:])))


def _whole_numbers(where: str, numbers: Any, minimum: int) -> Shape:
    if isinstance(numbers, str) or not isinstance(numbers, Sequence):
        raise ConfigError(where, "a tuple of ints", repr(numbers), "such as (4, -1), without the batch axis")
    return tuple(checks.whole(where, number, minimum) for number in numbers)
