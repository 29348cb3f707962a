"""What may stand in the place of a number in a made value, how it compares and hashes, and how it is pickled."""

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


def equal(a: Any, b: Any) -> bool:
    """Whether two children are the same: made alike, or arrays of the same numbers. NaN is equal to NaN."""
    if isinstance(a, Shown) or isinstance(b, Shown) or is_tracer(a) or is_tracer(b):
        return a is b or (isinstance(a, Shown) and a == b)
    if not (is_number_like(a) and is_number_like(b)):
        return a is b or bool(a == b)
    first, second = on_host(a), on_host(b)
    if first.shape != second.shape:
        return False
    if (
        first.ndim == 0 and first.dtype != second.dtype
    ):  # 0.1 and float32(0.1) print alike, and are alike
        narrow = min((first.dtype, second.dtype), key=lambda dtype: dtype.itemsize)
        first, second = first.astype(narrow), second.astype(narrow)
    return first.dtype == second.dtype and np.array_equal(
        first, second, equal_nan=first.dtype.kind == "f"
    )


def hash_of(child: Any) -> int:
    """The hash of a child; of one number in bfloat16, for 0.1, float32(0.1) and bfloat16(0.1) are equal."""
    if isinstance(child, Shown):
        return hash(child)
    if is_tracer(child) or not is_number_like(child):
        return id(child) if is_tracer(child) or type(child).__hash__ is None else hash(child)
    array = on_host(child)
    if array.ndim == 0:
        with np.errstate(over="ignore"):
            number = float(array.astype(jnp.bfloat16))
        return hash("nan" if math.isnan(number) else number)
    return hash((array.shape, array.dtype.str, array.tobytes()))


def on_host(value: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(value) if is_key(value) else value)


def is_tracer(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def is_number_like(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.ndarray | jax.Array)


def expect_leaf(path: str, child: Any) -> None:
    """Raise ConfigError unless the child may stand in the place of a number."""
    if not isinstance(child, Shown) and (not is_number_like(child) or isinstance(child, bool)):
        raise ConfigError(
            path, "a number", repr(child), "put a number, or an array of numbers, in its place"
        )


# Neither a random key nor a compiled function can be pickled, so their numbers or names are.


def pack(value: Any) -> Any:
    if is_key(value):
        return PackedKey(str(jax.random.key_impl(value)), np.asarray(jax.random.key_data(value)))
    if callable(value) and not isinstance(value, Shown | type | python_types.FunctionType):
        name = PackedName(getattr(value, "__module__", None), getattr(value, "__qualname__", None))
        return name if name.found() is value else value
    return _mapped(pack, value)


def unpack(value: Any) -> Any:
    if isinstance(value, PackedKey):
        return jax.random.wrap_key_data(jnp.asarray(value.data), impl=value.impl)
    if isinstance(value, PackedName):
        return value.found()
    return _mapped(unpack, value)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    if type(value) in (tuple, list):
        return type(value)(map(function, value))
    if type(value) is dict:
        return {name: function(part) for name, part in value.items()}
    return value


class PackedKey:
    """The numbers of a random key."""

    def __init__(self, impl: str, data: np.ndarray):
        self.impl, self.data = impl, data


class PackedName:
    """The name of a function in its module."""

    def __init__(self, module: str | None, name: str | None):
        self.module, self.name = module, name

    def found(self) -> Any:
        """The function, or None."""
        module = sys.modules.get(self.module or "")
        return getattr(module, self.name or "", None)
