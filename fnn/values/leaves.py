"""Leaves of made values: which objects may be leaves, equality, hashes and pickling."""

import math
import sys
import types as python_types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import ConfigError
from fnn.values.show import Shown


class Variable(Shown):
    """A leaf whose value is chosen later. The same object in two places has one value.

    Attributes:
        examples: Values with which a call is checked, such as the ends of an interval.
        is_number: Whether all values are numbers.
        is_finite: Whether there are finitely many values, so that they can be structure.
    """

    examples: tuple[Any, ...]
    is_number: bool
    is_finite: bool


def equal(a: Any, b: Any) -> bool:
    """Whether two children are equal: made alike, or arrays of equal numbers.

    NaN equals NaN. Two scalars are compared in the narrower of their dtypes: 0.1 and float32(0.1)
    print alike, so they are equal.
    """
    if isinstance(a, Shown) or isinstance(b, Shown):
        return a is b or (isinstance(a, Shown) and a == b)
    if is_tracer(a) or is_tracer(b):
        return a is b
    if not (is_number_like(a) and is_number_like(b)):
        return a is b or bool(a == b)
    first = on_host(a)
    second = on_host(b)
    if first.shape != second.shape:
        return False
    if first.ndim == 0 and first.dtype != second.dtype:
        narrow = min((first.dtype, second.dtype), key=lambda dtype: dtype.itemsize)
        first = first.astype(narrow)
        second = second.astype(narrow)
    if first.dtype != second.dtype:
        return False
    return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")


def hash_of(child: Any) -> int:
    """The hash of a child, equal for children that are equal."""
    if isinstance(child, Shown):
        return hash(child)
    if is_tracer(child):
        return id(child)
    if not is_number_like(child):
        return id(child) if type(child).__hash__ is None else hash(child)
    array = on_host(child)
    if array.ndim > 0:
        return hash((array.shape, array.dtype.str, array.tobytes()))
    # In bfloat16, the narrowest dtype in which scalars may be compared.
    with np.errstate(over="ignore"):
        number = float(array.astype(jnp.bfloat16))
    return hash("nan" if math.isnan(number) else number)


def on_host(value: Any) -> np.ndarray:
    """The numbers as a NumPy array; those of a random key are its words."""
    return np.asarray(jax.random.key_data(value) if is_key(value) else value)


def is_tracer(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def is_number_like(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.ndarray | jax.Array)


def expect_leaf(path: str, child: Any) -> None:
    """Raise ConfigError if the object at this path cannot be used as a number."""
    if isinstance(child, Variable):
        advice = "draw recipes from this space, as search.random does"
        raise ConfigError(path, "a value", child, advice)
    if isinstance(child, Shown):
        return
    if not is_number_like(child) or isinstance(child, bool):
        advice = "replace it by a number or an array of numbers"
        raise ConfigError(path, "a number", repr(child), advice)


# Random keys and compiled functions cannot be pickled; their words or names are pickled instead.


def pack(value: Any) -> Any:
    """Replace random keys and callable objects of modules by objects that can be pickled."""
    if is_key(value):
        return PackedKey(str(jax.random.key_impl(value)), np.asarray(jax.random.key_data(value)))
    if callable(value) and not isinstance(value, Shown | type | python_types.FunctionType):
        name = PackedName(getattr(value, "__module__", None), getattr(value, "__qualname__", None))
        return name if name.load() is value else value
    return _map_container(pack, value)


def unpack(value: Any) -> Any:
    """Invert `pack`."""
    if isinstance(value, PackedKey):
        return jax.random.wrap_key_data(jnp.asarray(value.data), impl=value.impl)
    if isinstance(value, PackedName):
        return value.load()
    return _map_container(unpack, value)


def _map_container(function: Callable[[Any], Any], value: Any) -> Any:
    if type(value) in (tuple, list):
        return type(value)(map(function, value))
    if type(value) is dict:
        return {name: function(part) for name, part in value.items()}
    return value


class PackedKey:
    """The words of a random key, and the name of its generator."""

    def __init__(self, impl: str, data: np.ndarray):
        self.impl = impl
        self.data = data


class PackedName:
    """The name of a callable object in its module."""

    def __init__(self, module: str | None, name: str | None):
        self.module = module
        self.name = name

    def load(self) -> Any:
        """The object of this name in a module that is imported, or None."""
        module = sys.modules.get(self.module or "")
        return getattr(module, self.name or "", None)
