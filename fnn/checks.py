"""Checks of arguments. A traced value passes every check on its number, which is not yet known."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.types import Shape

# Comparison with an end of an interval, by its bracket.
MINIMUM = {"[": lambda value, low: value >= low, "(": lambda value, low: value > low}
MAXIMUM = {"]": lambda value, high: value <= high, ")": lambda value, high: value < high}

# Names of the spatial axes of a signal, an image and a volume.
SPATIAL_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}

CHANNELS = (1, 3, 4)  # of images: gray, RGB, RGB and alpha
MAX_ASPECT = 3  # of the sides of an image, where it must be recognized by its shape

# Shapes of the network's inputs that have channels first; see `reject_channels_first`.
_channels_first: ContextVar[frozenset[Shape]] = ContextVar("channels_first", default=frozenset())

# `show` shortens a value to these.
MAX_PARTS = 8
MAX_TEXT = 300

# How `each` describes its argument, by the number of axes.
ONE_OR_EACH = {1: "one int", 2: "one int or two", 3: "one int or three"}

# The way out where a layer of one array gets several.
ONE_OF_SEVERAL = "take one, as by nn.pick(0), or join them, as by nn.concat() or nn.add()"


def is_concrete(value: Any) -> bool:
    """Return whether the numbers of a value are known on the host: it is not traced."""
    return not isinstance(value, jax.core.Tracer)


def describe(array: Any) -> str:
    """Return dtype and shape as text, `float32[2,8,8,1]`."""
    # JAX has no dtype for text, objects and times.
    is_foreign = isinstance(array, np.ndarray) and array.dtype.kind in "OSUMm"
    dtype = array.dtype if is_foreign else jnp.result_type(array)
    return f"{dtype}[{','.join(map(str, np.shape(array)))}]"


def describe_tree(tree: Any) -> str:
    """Return the arrays of a tuple or dict, or their shapes, as text, `{mean: float32[3,2]}`."""
    if isinstance(tree, Mapping):
        entries = [f"{name}: {describe_tree(part)}" for name, part in tree.items()]
        return "{" + ", ".join(entries) + "}"
    if isinstance(tree, tuple | list) and not is_one_shape(tree):
        return f"({', '.join(map(describe_tree, tree))})"
    return describe(tree) if hasattr(tree, "dtype") else str(tree)


def is_one_shape(shape: Any) -> bool:
    """Return whether a value is the shape of one array, not a tree of shapes."""
    return isinstance(shape, tuple | list) and not any(
        isinstance(size, tuple | list | Mapping) or hasattr(size, "dtype") for size in shape
    )


def show(value: Any) -> str:
    """Return a short text of any value, in which arrays are dtype and shape.

    Errors show values that users mistook for others, such as a whole train state. The numbers of
    their arrays would hide the message.
    """
    if isinstance(value, np.ndarray | jax.Array):
        return describe(value)
    if isinstance(value, tuple) and type(value) is not tuple:
        return f"a {type(value).__name__}"
    text = repr(value) if not isinstance(value, tuple | list | dict) else _show_parts(value)
    # Lists of lists have a multiple of parts at each level.
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."


def _show_parts(value: Any) -> str:
    if isinstance(value, dict):
        parts = [f"{key!r}: {show(value[key])}" for key in list(value)[:MAX_PARTS]]
    else:
        parts = [show(part) for part in value[:MAX_PARTS]]
    text = ", ".join([*parts, "..."] if len(value) > MAX_PARTS else parts)
    if isinstance(value, dict):
        return f"{{{text}}}"
    if isinstance(value, list):
        return f"[{text}]"
    return f"({text},)" if len(value) == 1 else f"({text})"


def unmasked(where: str, array: np.ma.MaskedArray[Any, Any]) -> np.ndarray:
    """Return a masked array without masked entries as a plain one; DTypeError if it has some."""
    masked = int(np.ma.count_masked(array))
    if masked:
        got = f"{masked} masked of {array.size} entries"
        advice = "fill them, as in x.filled(0), or drop these examples"
        raise DTypeError(where, "an array without a mask", got, advice)
    return np.asarray(array.data)


def as_array(where: str, value: Any) -> Any:
    """Return an array of NumPy or JAX as it is, and any other value as one of NumPy.

    Raises DTypeError for those that NumPy cannot read, such as arrays of torch in bfloat16 or on an
    accelerator, and ragged lists.
    """
    if isinstance(value, np.ndarray | jax.Array):
        return value
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        advice = "convert it to numbers that NumPy has"
        raise DTypeError(where, "an array of numbers", type(value).__name__, advice) from None


def native(where: str, array: np.ndarray) -> np.ndarray:
    """Return the array if JAX has its byte order and width of floats; else DTypeError."""
    # Such as long double of x86, which JAX does not have.
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        raise DTypeError(
            where,
            "floats of at most 64 bits",
            f"dtype {array.dtype}",
            "use x.astype(numpy.float64)",
        )
    if not array.dtype.isnative:
        advice = "use x.astype(x.dtype.newbyteorder('='))"
        raise DTypeError(where, "native byte order", f"dtype {array.dtype.str}", advice)
    return array


# Numbers.


def number(where: str, value: Any, interval: str) -> Any:
    """Return the value if it is one real number in an interval; ConfigError otherwise.

    Args:
        where: Name of the argument in errors.
        value: A Python number, or an array of shape () that may be traced.
        interval: Such as "[0, 1)" or "(0, inf)".
    """
    if not _is_real(value) or np.shape(value) != ():
        got = show(value)
        if _is_real(value):
            got = f"an array of shape {np.shape(value)}"
        raise ConfigError(
            where,
            f"one number in {interval}",
            got,
            "give one number; for many, map with jax.vmap",
        )
    if is_concrete(value) and not _is_within(float(value), interval):
        raise ConfigError(
            where,
            f"a number in {interval}",
            value,
            "choose a value in this interval",
        )
    return value


def _is_real(value: Any) -> bool:
    if isinstance(value, np.number | np.ndarray | jax.Array):
        is_float = jnp.issubdtype(value.dtype, jnp.floating)
        return is_float or jnp.issubdtype(value.dtype, jnp.integer)
    # A bool is an int in Python.
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_within(value: float, interval: str) -> bool:
    low, high = map(float, interval[1:-1].split(","))
    # Both comparisons are False for NaN.
    is_above = MINIMUM[interval[0]](value, low)
    is_below = MAXIMUM[interval[-1]](value, high)
    return is_above and is_below


def whole(where: str, value: Any, minimum: int = 1) -> int:
    """Return the value if it is a static integer >= minimum; ConfigError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ConfigError(
            where,
            "a whole number",
            show(value),
            "give an int: it sets the shapes of arrays, so it cannot be traced",
        )
    if value < minimum:
        raise ConfigError(
            where,
            f">= {minimum}",
            value,
            "choose a larger one",
        )
    return int(value)


def pair(
    where: str,
    value: int | Sequence[int],
    minimum: int = 1,
) -> tuple[int, int]:
    """Return two integers, given two or one for both; ConfigError otherwise."""
    first, second = each(where, value, 2, minimum)
    return first, second


def each(
    where: str,
    value: int | Sequence[int],
    axes: int,
    minimum: int = 1,
) -> tuple[int, ...]:
    """Return one integer per axis, given these or one for all axes; ConfigError otherwise."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * axes
    if len(values) != axes:
        raise ConfigError(
            where,
            ONE_OR_EACH[axes],
            show(value),
            "give one for all axes, or one for each",
        )
    return tuple(whole(where, number, minimum) for number in values)


# Flags and choices.


def flag(where: str, value: Any) -> bool:
    """Return the value if it is True or False; ConfigError otherwise."""
    if not isinstance(value, bool | np.bool):
        raise ConfigError(
            where,
            "True or False",
            show(value),
            "it changes the structure, so it is static",
        )
    return bool(value)


def choice(where: str, value: Any, choices: Sequence[Any]) -> Any:
    """Return the choice that the value equals, in the type of Python; ConfigError if none does."""
    # A text or number of NumPy, as from an array of settings, is the one of Python.
    plain = value.item() if isinstance(value, np.generic) else value
    for one in choices:
        # The types are compared too, since True == 1.
        if type(plain) is type(one) and plain == one:
            return one
    raise ConfigError(
        where,
        f"one of {', '.join(map(str, choices))}",
        show(value),
        "choose one of them",
    )


# Keys, arrays and optimizers.


def key(where: str, value: Any) -> jax.Array:
    """Return the value if it is one typed JAX key; DTypeError or ShapeError otherwise."""
    if not isinstance(value, jax.Array) or not jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        # An old-style key is an array uint32[2], a seed an int.
        is_array = isinstance(value, jax.Array | np.ndarray)
        got = show(value)
        if not is_array and not isinstance(value, tuple | list | dict):
            got = f"{type(value).__name__} {got}"
        raise DTypeError(
            where,
            "a key from jax.random.key(...)",
            got,
            "pass key=jax.random.key(0)",
        )
    if value.shape != ():
        raise ShapeError(
            where,
            "one key",
            f"keys of shape {value.shape}",
            "map over keys with jax.vmap",
        )
    return value


def one_array(where: str, x: Any) -> jax.Array:
    """Return x if it is one array; DTypeError if it is a tuple or dict of arrays."""
    if not hasattr(x, "dtype"):
        is_tree = isinstance(x, tuple | list | Mapping)
        got = f"{type(x).__name__} {describe_tree(x)}" if is_tree else type(x).__name__
        raise DTypeError(where, "one array", got, ONE_OF_SEVERAL)
    return x


def one_shape(where: str, shape: Any) -> Shape:
    """Return the shape if it is that of one array; ShapeError if it is a tree of shapes."""
    if not is_one_shape(shape):
        raise ShapeError(where, "the shape of one array", describe_tree(shape), ONE_OF_SEVERAL)
    return tuple(shape)


def floating(where: str, x: Any) -> jax.Array:
    """Return the array if it holds floating-point numbers; DTypeError otherwise."""
    one_array(where, x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise DTypeError(
            where,
            "floating-point numbers",
            x.dtype,
            "scale first, e.g. fnn.data.to_float(x)"
            if x.dtype == jnp.uint8
            else "convert them, as in x.astype(float)",
        )
    return x


def optimizer(where: str, value: Any) -> Any:
    """Return the value if it has functions init and update; ConfigError otherwise.

    Optimizers of other libraries with this signature pass.
    """
    if not all(callable(getattr(value, part, None)) for part in ("init", "update")):
        raise ConfigError(
            where,
            "a pair (init, update)",
            show(value),
            "call its maker, as in optim.adam(1e-3)",
        )
    return value


# Images, signals and volumes.


def layout(axes: int) -> str:
    """Return the letters of the axes of a batch, NHWC for images."""
    letters = [name[0].upper() for name in SPATIAL_AXES[axes]]
    return f"N{''.join(letters)}C"


def image_shape(where: str, shape: Shape, axes: int = 2, *, is_declared: bool = False) -> Shape:
    """Return the shape if it is that of one image, (height, width, channels); ShapeError otherwise.

    Args:
        where: Name of the argument in errors.
        shape: Without the batch axis.
        axes: Number of spatial axes: 1 for a signal, 2 for an image, 3 for a volume.
        is_declared: Whether the number of channels is known to be right.
    """
    rank = len(one_shape(where, shape))
    if rank != axes + 1:
        expected = f"({', '.join((*SPATIAL_AXES[axes], 'channels'))})"
        # The shape is that of one image, so a batch without its first axis lacks the height here.
        advice = "add a channel axis: x[..., None], or a batch axis: x[None]"
        if rank > axes + 1:
            advice = "give the shape of one example, without the batch axis"
        raise ShapeError(where, expected, tuple(shape), advice)
    if tuple(shape) in _channels_first.get() and not is_declared:
        expected = "images with channels last, (height, width, channels)"
        advice = "transpose the batch, as in numpy.moveaxis(x, 1, -1); if they are last, "
        advice += f"begin with a convolution with in_channels={shape[-1]}"
        raise ShapeError(where, expected, tuple(shape), advice)
    return shape


@contextmanager
def reject_channels_first(shapes: Iterable[Shape]) -> Iterator[None]:
    """Make `image_shape` raise ShapeError for those of these shapes that have channels first.

    The shapes are those of the inputs of a network that is initialized within the context. A deeper
    layer may have any shape, such as (4, 4, 128).
    """
    token = _channels_first.set(frozenset(filter(_has_channels_first, shapes)))
    try:
        yield
    finally:
        _channels_first.reset(token)


def _has_channels_first(shape: Shape) -> bool:
    """Return whether a shape is that of an image (channels, height, width), or of a volume."""
    if len(shape) not in (3, 4) or shape[0] not in CHANNELS or shape[-1] in CHANNELS:
        return False
    channels, *sides = shape
    # Images are larger than their channels and not much longer than wide, while a feature map such
    # as (4, 4, 128) or a recording such as (1, 1000, 22) has a last axis of another size.
    return channels < min(sides) and max(sides) <= MAX_ASPECT * min(sides)


def image_batch(where: str, x: jax.Array, axes: int = 2) -> jax.Array:
    """Return the array if it is a batch of floating-point images (N, H, W, C).

    Args:
        where: Name of the argument in errors.
        x: The batch.
        axes: Number of spatial axes: 1 for signals, 2 for images, 3 for volumes.

    Raises:
        ShapeError: The rank is not axes + 2.
        DTypeError: The array does not hold floating-point numbers.
    """
    if one_array(where, x).ndim != axes + 2:
        raise ShapeError(
            where,
            f"rank {axes + 2} ({', '.join(layout(axes))})",
            x.shape,
            "add a channel axis, x[..., None], or a batch axis, x[None]",
        )
    return floating(where, x)
