"""Arguments split into structure and leaves, and what makes two structures equal."""

import types as python_types
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Union, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np

from fnn.values.show import Shown


class Hole:
    """Stands in a structure where a leaf or a subtree was taken out."""

    def __repr__(self) -> str:
        return "..."


HOLE = Hole()


def split(
    value: Any, numeric: bool, children: list[Any], keys: list[str], path: tuple[str, ...]
) -> Any:
    """The value with a hole for each leaf, which is put among the children."""
    if isinstance(value, Shown) or is_leaf(value, numeric):
        children.append(as_leaf(value) if numeric else value)
        keys.append(".".join(path))
        return HOLE
    if type(value) in (tuple, list):
        return type(value)(
            split(part, numeric, children, keys, (*path, str(place)))
            for place, part in enumerate(value)
        )
    if type(value) is dict:
        return {
            name: split(part, numeric, children, keys, (*path, str(name)))
            for name, part in value.items()
        }
    return value


def is_leaf(value: Any, numeric: bool) -> bool:
    if isinstance(value, jax.Array):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufc" and (numeric or value.ndim > 0)
    return numeric and isinstance(value, int | float | np.number) and not isinstance(value, bool)


def as_leaf(value: Any) -> Any:
    """The number as a leaf: a whole number becomes a float, of which there are gradients."""
    if isinstance(value, int):
        return float(value)
    if hasattr(value, "dtype") and value.dtype.kind in "iu" and np.ndim(value) == 0:
        return value.astype(jnp.result_type(float))
    return value


def fill(value: Any, children: Iterator[Any]) -> Any:
    """The value with the next children in its holes."""
    if value is HOLE:
        return next(children)
    if type(value) in (tuple, list):
        return type(value)(fill(part, children) for part in value)
    if type(value) is dict:
        return {name: fill(part, children) for name, part in value.items()}
    return value


class Same:
    """An object that is equal to itself alone. It is held weakly, so that what remembers it does not keep it alive."""

    __slots__ = ("_id", "_strong", "ref")

    def __init__(self, value: Any):
        self._id = id(value)
        try:
            self.ref: Callable[[], Any] = weakref.ref(value)
            self._strong = None
        except TypeError:
            self.ref, self._strong = (lambda: value), value

    def on_gone(self, callback: Callable[[Any], Any]) -> Any:
        """A weak reference that calls back when the object is gone; None for an object that takes none."""
        return None if self._strong is not None else weakref.ref(self.ref(), callback)

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Same)
            and self._id == other._id
            and self.ref() is other.ref() is not None
        )


def identity_of(value: Any) -> Any:
    """Something with a hash that is equal for values that are made alike."""
    if isinstance(
        value, tuple | list
    ):  # a NamedTuple too: its parts, as those of a train state, may have no hash
        return (type(value), *map(identity_of, value))
    if type(value) is dict:
        return (dict, *((name, identity_of(part)) for name, part in value.items()))
    if isinstance(value, partial):
        return (
            partial,
            identity_of(value.func),
            identity_of(value.args),
            identity_of(value.keywords),
        )
    if isinstance(value, python_types.MethodType):
        return (python_types.MethodType, Same(value.__self__), Same(value.__func__))
    if isinstance(value, type) or value is None:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ("number", value)  # 1 and 1.0 print alike
    if type(value).__hash__ is None or type(value).__eq__ is object.__eq__:
        return Same(value)
    return (type(value), value)


def objects_of(identity: Any) -> Iterator[Same]:
    """The objects that an identity compares by themselves."""
    if isinstance(identity, Same):
        yield identity
    elif isinstance(identity, tuple):
        for part in identity:
            yield from objects_of(part)


def is_numeric(annotation: Any) -> bool:
    """Whether an argument that is declared so may be a number that is traced: as Number, Rate or Magnitude are."""
    if get_origin(annotation) in (Union, python_types.UnionType):
        parts = get_args(annotation)
        return (float in parts and jax.Array in parts) or any(map(is_numeric, parts))
    if get_origin(annotation) is not None and not _is_callable(annotation):
        return any(map(is_numeric, get_args(annotation)))
    return False


def _is_callable(annotation: Any) -> bool:
    return get_origin(annotation) is Callable or get_origin(annotation) is getattr(
        Callable, "__origin__", None
    )
