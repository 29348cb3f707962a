"""What an argument may be. A traced value passes every check on its number, for the number is not known yet."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.types import Shape

MINIMUM = {"[": lambda value, low: value >= low, "(": lambda value, low: value > low}
MAXIMUM = {"]": lambda value, high: value <= high, ")": lambda value, high: value < high}


def is_concrete(value: Any) -> bool:
    """Whether the value's numbers are known now, on the host."""
    return not isinstance(value, jax.core.Tracer)


def describe(array: Any) -> str:
    """The array as `float32[2,8,8,1]`."""
    return f"{jnp.result_type(array)}[{','.join(map(str, np.shape(array)))}]"


def number(where: str, value: Any, interval: str) -> Any:
    """The value, if it is one real number in an interval such as "[0, 1)"; ConfigError otherwise."""
    if not _is_real(value) or np.shape(value) != ():
        got = f"an array of shape {np.shape(value)}" if _is_real(value) else repr(value)
        raise ConfigError(where, f"one number in {interval}", got, "give one number; for many, map with jax.vmap")
    low, high = map(float, interval[1:-1].split(","))
    if is_concrete(value) and not (
        MINIMUM[interval[0]](float(value), low) and MAXIMUM[interval[-1]](float(value), high)
    ):
        raise ConfigError(where, f"a number in {interval}", value, "choose a value inside")
    return value


def _is_real(value: Any) -> bool:
    if isinstance(value, np.number | np.ndarray | jax.Array):
        return jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole(where: str, value: Any, minimum: int = 1) -> int:
    """The value, if it is a static whole number not below the minimum; ConfigError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ConfigError(
            where, "a whole number", repr(value), "sizes and counts shape arrays, so they are static ints"
        )
    if value < minimum:
        raise ConfigError(where, f">= {minimum}", value, "choose a larger one")
    return int(value)


def pair(where: str, value: int | Sequence[int], minimum: int = 1) -> tuple[int, int]:
    """Two whole numbers, or one for both."""
    values = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(values) != 2:
        raise ConfigError(where, "one int or two", value, "give one for both, or one for each")
    return whole(where, values[0], minimum), whole(where, values[1], minimum)


def key(where: str, value: Any) -> jax.Array:
    """The value, if it is one typed JAX key; DTypeError otherwise."""
    if not isinstance(value, jax.Array) or not jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        got = describe(value) if isinstance(value, jax.Array | np.ndarray) else f"{type(value).__name__} {value!r}"
        raise DTypeError(where, "a key from jax.random.key(...)", got, "pass key=jax.random.key(0)")
    if value.shape != ():
        raise ShapeError(where, "one key", f"keys of shape {value.shape}", "map over keys with jax.vmap")
    return value


def floating(where: str, x: Any) -> jax.Array:
    """The array, if it holds floating-point numbers; DTypeError otherwise."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise DTypeError(where, "floating-point numbers", x.dtype, "scale first, e.g. fnn.data.to_float(x)")
    return x


def image_shape(where: str, shape: Shape) -> Shape:
    """The shape, if it is one image's (height, width, channels); ShapeError otherwise."""
    if len(shape) != 3:
        raise ShapeError(where, "(height, width, channels)", tuple(shape), "add a channel axis: x[..., None]")
    return shape


def image_batch(where: str, x: jax.Array) -> jax.Array:
    """The array, if it is a batch of floating-point images (N, H, W, C)."""
    if x.ndim != 4:
        raise ShapeError(
            where, "rank 4 (N, H, W, C)", x.shape, "add a channel axis, x[..., None], or a batch axis, x[None]"
        )
    return floating(where, x)
