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
        raise ConfigError(
            where, f"one number in {interval}", got, "give one number; for many, map with jax.vmap"
        )
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
            where,
            "a whole number",
            repr(value),
            "sizes and counts shape arrays, so they are static ints",
        )
    if value < minimum:
        raise ConfigError(where, f">= {minimum}", value, "choose a larger one")
    return int(value)


def flag(where: str, value: Any) -> bool:
    """The value, if it is True or False; ConfigError otherwise."""
    if not isinstance(value, bool | np.bool):
        raise ConfigError(
            where, "True or False", repr(value), "it decides what is built, so it is static"
        )
    return bool(value)


def choice(where: str, value: Any, choices: Sequence[Any]) -> Any:
    """The value, if it is one of these; ConfigError otherwise."""
    if not any(type(value) is type(one) and value == one for one in choices):  # True is no 1
        raise ConfigError(
            where, f"one of {', '.join(map(str, choices))}", repr(value), "choose one of them"
        )
    return value


def pair(where: str, value: int | Sequence[int], minimum: int = 1) -> tuple[int, int]:
    """Two whole numbers, or one for both."""
    first, second = each(where, value, 2, minimum)
    return first, second


def each(where: str, value: int | Sequence[int], axes: int, minimum: int = 1) -> tuple[int, ...]:
    """A whole number for each of so many axes, or one for all."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * axes
    if len(values) != axes:
        expected = ("one int", "one int or two", "one int or three")[axes - 1]
        raise ConfigError(where, expected, value, "give one for all axes, or one for each")
    return tuple(whole(where, number, minimum) for number in values)


def key(where: str, value: Any) -> jax.Array:
    """The value, if it is one typed JAX key; DTypeError otherwise."""
    if not isinstance(value, jax.Array) or not jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        got = (
            describe(value)
            if isinstance(value, jax.Array | np.ndarray)
            else f"{type(value).__name__} {value!r}"
        )
        raise DTypeError(where, "a key from jax.random.key(...)", got, "pass key=jax.random.key(0)")
    if value.shape != ():
        raise ShapeError(
            where, "one key", f"keys of shape {value.shape}", "map over keys with jax.vmap"
        )
    return value


def floating(where: str, x: Any) -> jax.Array:
    """The array, if it holds floating-point numbers; DTypeError otherwise."""
    if not hasattr(x, "dtype"):
        raise DTypeError(
            where,
            "one array",
            type(x).__name__,
            "join several first, as by nn.concat() or nn.add()",
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise DTypeError(
            where, "floating-point numbers", x.dtype, "scale first, e.g. fnn.data.to_float(x)"
        )
    return x


def optimizer(where: str, value: Any) -> Any:
    """The value, if it is a pair (init, update) of functions, of fnn or of another library; ConfigError otherwise."""
    if not all(callable(getattr(value, part, None)) for part in ("init", "update")):
        raise ConfigError(
            where, "a pair (init, update)", repr(value), "call its maker, as in optim.adam(1e-3)"
        )
    return value


# The axes of a signal, an image and a volume.
PLACES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def layout(axes: int) -> str:
    """The letters of a batch's axes, NHWC for images."""
    return f"N{''.join(place[0].upper() for place in PLACES[axes])}C"


def image_shape(where: str, shape: Shape, axes: int = 2) -> Shape:
    """The shape, if it is one image's (height, width, channels), or a signal's or a volume's; ShapeError otherwise."""
    if len(shape) != axes + 1:
        expected = f"({', '.join((*PLACES[axes], 'channels'))})"
        raise ShapeError(where, expected, tuple(shape), "add a channel axis: x[..., None]")
    return shape


def image_batch(where: str, x: jax.Array, axes: int = 2) -> jax.Array:
    """The array, if it is a batch of floating-point images (N, H, W, C), or of signals or volumes."""
    if x.ndim != axes + 2:
        advice = "add a channel axis, x[..., None], or a batch axis, x[None]"
        raise ShapeError(where, f"rank {axes + 2} ({', '.join(layout(axes))})", x.shape, advice)
    return floating(where, x)
