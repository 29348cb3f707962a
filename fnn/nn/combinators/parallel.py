"""Layers side by side, and how their outputs are joined."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.composite import Go, Parts, by_place, composite
from fnn.nn.core.stateless import plain
from fnn.types import Layer, Shape
from fnn.values import maker

JOINS = ("concat", "sum", "tuple", "dict")


@maker
def parallel(*layers: Layer, join: str = "concat", axis: int = -1, **named: Layer) -> Layer:
    """The same x through every layer, and their outputs together, y = join(f_1(x), ..., f_n(x)).

    join="concat" sets them end to end along the axis (1 is the first one of an example), "sum" adds them up, "tuple"
    keeps them apart in order, and "dict" by name, as the heads of a network that predicts several things; out_shape is
    then a tuple, or a dict, of shapes. Names are those of `chain`. ConfigError for an unknown join, or for no layers;
    ShapeError where outputs do not fit.
    """
    checks.choice("parallel join", join, JOINS)
    parts = by_place("parallel", layers, named)
    if not parts:
        raise ConfigError("parallel", "at least one layer", "none", "nn.chain() passes x on")
    end_to_end("parallel", axis)
    return _side_by_side(parts, join, axis)


def _side_by_side(parts: Parts, join: str, axis: int) -> Layer:
    def all_of(go: Go, x: Any, close: Callable[[dict[str, Any]], Any]) -> Any:
        return close({name: go(name, x) for name in parts})

    one = {"concat": end_to_end("parallel", axis), "sum": SUM}.get(join)
    if one is None:
        close = dict if join == "dict" else _values
        shapes = arrays = partial(all_of, close=close)
    else:
        shapes = partial(all_of, close=lambda shapes: one.shape("parallel", _values(shapes)))
        arrays = partial(all_of, close=lambda arrays: one.array("parallel", _values(arrays)))
    return composite("parallel", parts, shapes, arrays)


def _values(outputs: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(outputs.values())


class Join(NamedTuple):
    """A way of making one array of several, for the shapes of an example and for the arrays themselves."""

    shapes: Callable[[str, Sequence[Shape]], Shape]
    arrays: Callable[[Sequence[jax.Array]], jax.Array]

    def shape(self, where: str, shapes: Any) -> Shape:
        """The shape that these become, without the batch axis; ShapeError where they do not fit."""
        if not isinstance(shapes, Sequence) or not shapes or not all(map(trees.is_shape, shapes)):
            raise ShapeError(
                where, "a tuple of shapes, one for each array", shapes, "give it a tuple of arrays"
            )
        return self.shapes(where, shapes)

    def array(self, where: str, arrays: Any) -> jax.Array:
        """The array that these become; ShapeError where they do not fit, for nothing is broadcast."""
        if (
            not isinstance(arrays, tuple | list)
            or not arrays
            or not all(jnp.ndim(array) for array in arrays)
        ):
            got = checks.describe(arrays) if hasattr(arrays, "dtype") else repr(arrays)
            raise ShapeError(
                where,
                "a tuple of arrays (batch, ...)",
                got,
                "take them from nn.graph or nn.parallel",
            )
        if len({array.shape[0] for array in arrays}) > 1:
            shapes = [array.shape for array in arrays]
            raise ShapeError(
                where, "arrays of one batch size", shapes, "give them the same examples"
            )
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
        raise ConfigError(
            f"{where} axis",
            "an axis of an example: 1, 2, ... or -1, -2, ...",
            axis,
            "0 is the batch",
        )
    return Join(partial(_lengthened, axis=axis), partial(jnp.concatenate, axis=axis))


def same_shape(where: str, shapes: Sequence[Shape]) -> Shape:
    """The one shape that all of these are; ShapeError otherwise."""
    if any(shape != shapes[0] for shape in shapes):
        raise ShapeError(
            where, "arrays of one shape", list(shapes), "let them end alike: nothing is broadcast"
        )
    return shapes[0]


def _lengthened(where: str, shapes: Sequence[Shape], axis: int) -> Shape:
    first = shapes[0]
    place = axis - 1 if axis > 0 else len(first) + axis
    if not 0 <= place < len(first):
        raise ShapeError(
            where,
            f"arrays with an axis {axis} besides the batch",
            list(shapes),
            "choose another axis",
        )
    if any(
        (*shape[:place], *shape[place + 1 :]) != (*first[:place], *first[place + 1 :])
        for shape in shapes
    ):
        raise ShapeError(
            where, f"arrays that differ along axis {axis} only", list(shapes), "let them end alike"
        )
    return (*first[:place], sum(shape[place] for shape in shapes), *first[place + 1 :])


def _join(name: str, join: Join) -> Layer:
    return plain(name, partial(join.shape, name), partial(join.array, name))


SUM = Join(same_shape, partial(reduce, jnp.add))
PRODUCT = Join(same_shape, partial(reduce, jnp.multiply))
