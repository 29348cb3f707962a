"""The split of arguments into structure and leaves, and the identity of structures."""

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
    """Marks in a structure the position of a leaf or subtree that was taken out."""

    def __repr__(self) -> str:
        return "..."


HOLE = Hole()


def split(
    value: Any, numeric: bool, children: list[Any], keys: list[str], path: tuple[str, ...]
) -> Any:
    """Replace the leaves of an argument by holes.

    Args:
        value: The argument, or a part of it.
        numeric: Whether Python numbers in it are leaves.
        children: The leaves and made values are appended to this list.
        keys: Their paths, joined by dots, are appended to this list.
        path: Path of `value`.

    Returns:
        The value with a `HOLE` for each leaf and made value.
    """
    if isinstance(value, Shown) or is_leaf(value, numeric):
        children.append(as_leaf(value) if numeric else value)
        keys.append(".".join(path))
        return HOLE

    def part(name: Any, item: Any) -> Any:
        return split(item, numeric, children, keys, (*path, str(name)))

    # A text or a truth value of NumPy prints and compares as that of Python.
    if isinstance(value, np.str_ | np.bool):
        return value.item()
    # Exactly these types: a NamedTuple or an OrderedDict cannot be rebuilt from its items alone.
    if type(value) in (tuple, list):
        return type(value)(part(index, item) for index, item in enumerate(value))
    if type(value) is dict:
        return {name: part(name, item) for name, item in value.items()}
    return value


def is_leaf(value: Any, numeric: bool) -> bool:
    """Whether a value is a leaf; Python and NumPy numbers only where the argument is numeric."""
    if isinstance(value, jax.Array):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufc" and (numeric or value.ndim > 0)
    return numeric and isinstance(value, int | float | np.number) and not isinstance(value, bool)


def as_leaf(value: Any) -> Any:
    """Convert an integer to a float, so that there is a gradient by it."""
    if isinstance(value, int):
        return float(value)
    if hasattr(value, "dtype") and value.dtype.kind in "iu" and np.ndim(value) == 0:
        return value.astype(jnp.result_type(float))
    return value


def fill(value: Any, children: Iterator[Any]) -> Any:
    """Replace the holes of a structure by the next children, in the order of `split`."""
    if value is HOLE:
        return next(children)
    if type(value) in (tuple, list):
        return type(value)(fill(part, children) for part in value)
    if type(value) is dict:
        return {name: fill(part, children) for name, part in value.items()}
    return value


class Same:
    """An object compared by identity, through a weak reference that does not keep it alive."""

    __slots__ = ("_id", "_strong", "ref")

    def __init__(self, value: Any):
        self._id = id(value)
        self._strong = None
        try:
            self.ref: Callable[[], Any] = weakref.ref(value)
        except TypeError:  # Objects such as integers of NumPy take no weak references.
            self._strong = value
            self.ref = lambda: value

    def on_gone(self, callback: Callable[[Any], Any]) -> Any:
        """A weak reference with a callback; None if the object takes no weak references."""
        return None if self._strong is not None else weakref.ref(self.ref(), callback)

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Same) or self._id != other._id:
            return False
        # The id of an object that is gone may be that of a new one.
        return self.ref() is other.ref() is not None


def identity_of(value: Any) -> Any:
    """A hashable object that is equal for arguments that were made alike.

    Functions and other objects without an equality of their own are compared by identity.
    """
    # Tuples include NamedTuples: their parts, such as arrays of a train state, may have no hash.
    if isinstance(value, tuple | list):
        return (type(value), *map(identity_of, value))
    if type(value) is dict:
        return (dict, *((name, identity_of(part)) for name, part in value.items()))
    if isinstance(value, partial):
        parts = (value.func, value.args, value.keywords)
        return (partial, *map(identity_of, parts))
    if isinstance(value, python_types.MethodType):
        return (python_types.MethodType, Same(value.__self__), Same(value.__func__))
    if isinstance(value, type) or value is None:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ("number", value)  # 1 and 1.0 print alike, so they are equal.
    if type(value).__hash__ is None or type(value).__eq__ is object.__eq__:
        return Same(value)
    return (type(value), value)


def objects_of(identity: Any) -> Iterator[Same]:
    """Iterate over the objects that an identity compares by identity."""
    if isinstance(identity, Same):
        yield identity
    elif isinstance(identity, tuple):
        for part in identity:
            yield from objects_of(part)


def is_numeric(annotation: Any) -> bool:
    """Whether an annotation allows a traced number, as `Number`, `Rate` and `Magnitude` do."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin in (Union, python_types.UnionType):
        return (float in arguments and jax.Array in arguments) or any(map(is_numeric, arguments))
    # Sequence[Number] and Mapping[str, Number] contain numbers; Callable[[Number], ...] does not.
    if origin is not None and not _is_callable(origin):
        return any(map(is_numeric, arguments))
    return False


def _is_callable(origin: Any) -> bool:
    return origin is Callable or origin is getattr(Callable, "__origin__", None)
