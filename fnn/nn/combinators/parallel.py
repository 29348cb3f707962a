"""Layers applied to the same input, and layers that join several arrays into one."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.composite import Go, Parts, composite, name_layers
from fnn.nn.core.decoder import per_position
from fnn.nn.core.stateless import stateless
from fnn.types import Layer, Shape
from fnn.values import maker

JOINS = ("concat", "sum", "tuple", "dict")


class Join(NamedTuple):
    """A way to join several arrays into one, for the shapes of an example and for the arrays.

    Attributes:
        shapes: (where, shapes) -> shape, without the batch axis.
        arrays: (arrays) -> array, each (batch, ...).
    """

    shapes: Callable[[str, Sequence[Shape]], Shape]
    arrays: Callable[[Sequence[jax.Array]], jax.Array]

    def shape(self, where: str, shapes: Any) -> Shape:
        """Check the shapes of an example and return that of the joined array."""
        if not isinstance(shapes, Sequence) or not shapes or not all(map(trees.is_shape, shapes)):
            expected = "a tuple of shapes, one for each array"
            raise ShapeError(
                where,
                expected,
                shapes,
                "give it a tuple of arrays",
            )
        return self.shapes(where, shapes)

    def array(self, where: str, arrays: Any) -> jax.Array:
        """Check the arrays and join them."""
        if not _are_batched(arrays):
            got = checks.describe_tree(arrays)
            advice = "take them from nn.graph or nn.parallel"
            raise ShapeError(
                where,
                "a tuple of arrays (batch, ...)",
                got,
                advice,
            )
        # A batch of one would be broadcast against the examples of another array.
        batch_sizes = {array.shape[0] for array in arrays}
        if len(batch_sizes) > 1:
            shapes = [array.shape for array in arrays]
            advice = "give them the same examples"
            raise ShapeError(
                where,
                "arrays of one batch size",
                shapes,
                advice,
            )
        # jnp.add and jnp.multiply would broadcast shapes that differ, so the shapes are checked.
        self.shape(where, [array.shape[1:] for array in arrays])
        return self.arrays(arrays)


def _are_batched(arrays: Any) -> bool:
    """Return whether these are one or more arrays, each with a batch axis."""
    if not isinstance(arrays, tuple | list) or not arrays:
        return False
    return all(jnp.ndim(array) > 0 for array in arrays)


def expect_same_shape(where: str, shapes: Sequence[Shape]) -> Shape:
    """Return the shape that all of these are, or raise ShapeError."""
    first = shapes[0]
    if any(shape != first for shape in shapes):
        advice = "make the layers end alike: nothing is broadcast"
        raise ShapeError(
            where,
            "arrays of one shape",
            list(shapes),
            advice,
        )
    return first


def _concat_shape(where: str, shapes: Sequence[Shape], axis: int) -> Shape:
    first = shapes[0]
    # The axis counts the batch axis, which these shapes do not have.
    index = axis - 1 if axis > 0 else len(first) + axis
    if not 0 <= index < len(first):
        expected = f"arrays with an axis {axis} besides the batch"
        raise ShapeError(
            where,
            expected,
            list(shapes),
            "choose another axis",
        )
    # All axes but this one have to be equal.
    before = first[:index]
    after = first[index + 1 :]
    for shape in shapes:
        if shape[:index] != before or shape[index + 1 :] != after:
            expected = f"arrays that differ along axis {axis} only"
            raise ShapeError(
                where,
                expected,
                list(shapes),
                "make the layers end alike",
            )
    length = sum(shape[index] for shape in shapes)
    return (*before, length, *after)


def concat_along(where: str, axis: int) -> Join:
    """Concatenation along an axis, counted with the batch axis."""
    # True is an int too, so it is excluded by its type.
    if isinstance(axis, bool) or not isinstance(axis, int) or axis == 0:
        expected = "an axis of an example: 1, 2, ... or -1, -2, ..."
        raise ConfigError(
            f"{where} axis",
            expected,
            axis,
            "axis 0 is the batch",
        )
    return Join(partial(_concat_shape, axis=axis), partial(jnp.concatenate, axis=axis))


# A sum of one array is the array: reduce adds nothing to it.
SUM = Join(expect_same_shape, partial(reduce, jnp.add))
PRODUCT = Join(expect_same_shape, partial(reduce, jnp.multiply))


@maker
def parallel(*layers: Layer, join: str = "concat", axis: int = -1, **named: Layer) -> Layer:
    """Layers applied to the same input, y = join(f_1(x), ..., f_n(x)).

    The params and the state are dicts with an entry for each layer that has params or state, named
    as in `chain`. For "tuple" and "dict", out_shape is a tuple or a dict of shapes.

    Args:
        layers: Layers, named after their makers and indices, such as `conv_0`.
        join: "concat" concatenates the outputs; "sum" adds them; "tuple" returns them in order;
            "dict" returns them by name, as for a network with several heads.
        axis: Axis of "concat", counted with the batch axis: 1 is the first axis of an example, -1
            the channels.
        named: More layers, under the names of the keyword arguments.

    Raises:
        ConfigError: `join` is not one of these, `axis` is 0, or there are no layers.
        ShapeError: The outputs cannot be joined; nothing is broadcast.
    """
    checks.choice("parallel join", join, JOINS)
    parts = name_layers("parallel", layers, named)
    if not parts:
        advice = "nn.chain() is the identity"
        raise ConfigError(
            "parallel",
            "at least one layer",
            "0 layers",
            advice,
        )
    # The axis is checked for every join, so that an error does not depend on the join.
    concat_along("parallel", axis)
    return _parallel(parts, join, axis)


def _parallel(parts: Parts, join: str, axis: int) -> Layer:
    def all_of(go: Go, x: Any, finish: Callable[[dict[str, Any]], Any]) -> Any:
        # Every layer gets the same x, and the key fold_in(key, i).
        outputs = {name: go(name, x) for name in parts}
        return finish(outputs)

    one_array = {"concat": concat_along("parallel", axis), "sum": SUM}.get(join)
    if one_array is None:
        # The outputs stay apart, so shapes and arrays are collected alike.
        collect = dict if join == "dict" else _values
        shapes = arrays = partial(all_of, finish=collect)
    else:
        shapes = partial(all_of, finish=lambda ends: one_array.shape("parallel", _values(ends)))
        arrays = partial(all_of, finish=lambda ends: one_array.array("parallel", _values(ends)))
    layer = composite("parallel", parts, shapes, arrays)
    if join == "concat" and not _is_after_time(axis):
        return layer
    return per_position(layer)


def _values(outputs: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(outputs.values())


@maker
def add() -> Layer:
    """Sum of a tuple of arrays, y = Σ_i x_i.

    ((batch, ...), (batch, ...), ...) -> (batch, ...). ShapeError if the shapes differ, since
    nothing is broadcast.
    """
    return per_position(_join("add", SUM))


@maker
def multiply() -> Layer:
    """Elementwise product of a tuple of arrays, y = Π_i x_i.

    ((batch, ...), (batch, ...), ...) -> (batch, ...). ShapeError if the shapes differ, since
    nothing is broadcast.
    """
    return per_position(_join("multiply", PRODUCT))


@maker
def concat(*, axis: int = -1) -> Layer:
    """Concatenation of a tuple of arrays along one axis.

    ((batch, ..., a), (batch, ..., b)) -> (batch, ..., a + b).

    Args:
        axis: Axis to concatenate along, counted with the batch axis: 1 is the first axis of an
            example, such as the time of a sequence; -1 is the channels.

    Raises:
        ConfigError: `axis` is 0, the batch axis.
        ShapeError: The arrays differ along another axis.
    """
    layer = _join("concat", concat_along("concat", axis))
    return per_position(layer) if _is_after_time(axis) else layer


def _is_after_time(axis: int) -> bool:
    """Return whether an axis is not the time of sequences (batch, time, ...) of any rank."""
    return axis == -1 or axis > 1


def _join(name: str, join: Join) -> Layer:
    return stateless(name, partial(join.shape, name), partial(join.array, name), several=True)
