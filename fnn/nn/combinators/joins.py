"""How several arrays become one."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.plain import plain
from fnn.types import Layer, Shape
from fnn.values import maker


class Join(NamedTuple):
    """A way of making one array of several, for the shapes of an example and for the arrays themselves."""

    shapes: Callable[[str, Sequence[Shape]], Shape]
    arrays: Callable[[Sequence[jax.Array]], jax.Array]

    def shape(self, where: str, shapes: Any) -> Shape:
        """The shape that these become, without the batch axis; ShapeError where they do not fit."""
        if not isinstance(shapes, Sequence) or not shapes or not all(map(trees.is_shape, shapes)):
            raise ShapeError(where, "a tuple of shapes, one for each array", shapes, "give it a tuple of arrays")
        return self.shapes(where, shapes)

    def array(self, where: str, arrays: Any) -> jax.Array:
        """The array that these become; ShapeError where they do not fit, for nothing is broadcast."""
        if not isinstance(arrays, tuple | list) or not arrays or not all(jnp.ndim(array) for array in arrays):
            got = checks.describe(arrays) if hasattr(arrays, "dtype") else repr(arrays)
            raise ShapeError(where, "a tuple of arrays (batch, ...)", got, "take them from nn.graph or nn.parallel")
        if len({array.shape[0] for array in arrays}) > 1:
            shapes = [array.shape for array in arrays]
            raise ShapeError(where, "arrays of one batch size", shapes, "give them the same examples")
        self.shape(where, [array.shape[1:] for array in arrays])
        return self.arrays(arrays)


@maker
def add() -> Layer:
    """The sum of a tuple of arrays of one shape, y = Σ_i x_i.

    ((batch, ...), (batch, ...), ...) -> (batch, ...); ShapeError where the shapes differ, for nothing is broadcast.
    """
    return _join("add", SUM)


@maker
def multiply() -> Layer:
    """The product of a tuple of arrays of one shape, number by number, y = Π_i x_i.

    ((batch, ...), (batch, ...), ...) -> (batch, ...); ShapeError where the shapes differ, for nothing is broadcast.
    """
    return _join("multiply", PRODUCT)


@maker
def concat(*, axis: int = -1) -> Layer:
    """A tuple of arrays set end to end along an axis of theirs, the channels unless said otherwise.

    ((batch, ..., a), (batch, ..., b)) -> (batch, ..., a + b). Axis 1 is the first one of an example, such as the time
    of a sequence. ConfigError for the batch axis 0; ShapeError where the arrays differ elsewhere.
    """
    return _join("concat", end_to_end("concat", axis))


def end_to_end(where: str, axis: int) -> Join:
    """Arrays set end to end along an axis, counted with the batch axis."""
    if isinstance(axis, bool) or not isinstance(axis, int) or axis == 0:
        raise ConfigError(f"{where} axis", "an axis of an example: 1, 2, ... or -1, -2, ...", axis, "0 is the batch")
    return Join(partial(_lengthened, axis=axis), partial(jnp.concatenate, axis=axis))


def same_shape(where: str, shapes: Sequence[Shape]) -> Shape:
    """The one shape that all of these are; ShapeError otherwise."""
    if any(shape != shapes[0] for shape in shapes):
        raise ShapeError(where, "arrays of one shape", list(shapes), "let them end alike: nothing is broadcast")
    return shapes[0]


def _lengthened(where: str, shapes: Sequence[Shape], axis: int) -> Shape:
    first = shapes[0]
    place = axis - 1 if axis > 0 else len(first) + axis
    if not 0 <= place < len(first):
        raise ShapeError(where, f"arrays with an axis {axis} besides the batch", list(shapes), "choose another axis")
    if any((*shape[:place], *shape[place + 1 :]) != (*first[:place], *first[place + 1 :]) for shape in shapes):
        raise ShapeError(where, f"arrays that differ along axis {axis} only", list(shapes), "let them end alike")
    return (*first[:place], sum(shape[place] for shape in shapes), *first[place + 1 :])


def _join(name: str, join: Join) -> Layer:
    return plain(name, partial(join.shape, name), partial(join.array, name))


SUM = Join(same_shape, partial(reduce, jnp.add))
PRODUCT = Join(same_shape, partial(reduce, jnp.multiply))
