"""Preprocessing of inputs: scaling of bytes, standardization and normalization."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import DTypeError, NonFiniteError, ShapeError
from fnn.types import Number, Shape
from fnn.values import maker

SEQUENCES = (list, tuple, int, float)  # without a dtype, which JAX chooses
Row = Sequence[Number] | jax.Array | np.ndarray  # one number per channel


@dataclass(frozen=True, eq=False)
class Fitted:
    """A map with fixed statistics, and its inverse; `fitted(x)` applies it.

    Attributes:
        forward: Function x -> y of stored inputs; bytes are scaled to x / 255 first.
        inverse: Function y -> x, on the scale of to_float(x).
    """

    forward: Callable[[jax.Array | np.ndarray], jax.Array]
    inverse: Callable[[jax.Array | np.ndarray], jax.Array]

    def __call__(self, x: jax.Array | np.ndarray) -> jax.Array:
        return self.forward(x)


def to_float(x: Any) -> Any:
    """Scale bytes 0..255 to floats x / 255 in [0, 1]; return arrays of any other dtype unchanged.

    Every array of a tuple, list or dict is converted on its own, so that inputs of several arrays
    keep their structure. Integers of other dtypes are numbers of tokens, lengths or classes, not
    levels: they stay integers. Cast such numbers from uint8 to int32 before.

    uint8 means the levels of an image. Tokens of a text are int32, as `windows` returns them.

    Args:
        x: Array of any shape and dtype, or a pytree of arrays.

    Returns:
        The same structure. Each uint8 array becomes one of the default float dtype and the same
        shape; all others are returned as JAX arrays.

    Raises:
        DTypeError: Entries of an array are masked or no numbers, or it has another byte order.
    """
    return jax.tree.map(_scale_bytes, x)


def _scale_bytes(x: Any) -> jax.Array:
    # JAX would drop the mask.
    if isinstance(x, np.ma.MaskedArray):
        x = checks.unmasked("to_float x", x)
    if isinstance(x, np.ndarray):
        # Objects, bytes, text, times, records.
        if x.dtype.kind in "OSUMmV":
            raise DTypeError("to_float x", "an array of numbers", x.dtype, "convert it first")
        x = checks.native("to_float x", x)
    x = jnp.asarray(x if isinstance(x, SEQUENCES) else checks.as_array("to_float x", x))
    if x.dtype != jnp.uint8:
        return x
    return x.astype(jnp.result_type(float)) / 255


def standardize(train_inputs: jax.Array | np.ndarray) -> Fitted:
    """Fit the map x -> (to_float(x) - mean) / std, with statistics of each channel.

    Mean and standard deviation are computed over all axes but the last, in float64, or in the
    dtype of JAX where the inputs are traced, as those of a fold within `jax.vmap`. Give the map to
    `train.recipe(..., prepare=...)`, which applies it in training, validation and prediction.

    Args:
        train_inputs: Training inputs (n, ..., channels), uint8 or floating-point; may be traced.
            Leave out validation and test inputs, so that their statistics do not leak into
            training.

    Returns:
        `normalize(mean, std)`, a map of arrays (..., channels). The std of a constant channel is
        set to 1, so that the channel becomes 0.

    Raises:
        ShapeError: There are no examples, or the map gets other channels.
        DTypeError: The inputs are a masked array or no numbers, or integers other than uint8 reach
            the map.
        NonFiniteError: A training input is NaN or infinite, and not traced.
    """
    where = "standardize train_inputs"
    if not checks.is_concrete(train_inputs):
        return normalize(*_traced_statistics(traced_inputs(where, train_inputs)))
    stored = host_inputs(where, train_inputs)
    # Statistics of the stored numbers are divided, so that bytes need not be copied as floats.
    scale = byte_scale(stored)
    axes = tuple(range(stored.ndim - 1))
    # (1, ..., 1, channels)
    mean = exact_mean(stored, axes)
    std = np.std(stored, axes, dtype=np.float64, mean=mean) / scale
    safe_std = np.where(std > 0, std, 1)
    return normalize(mean.reshape(-1) / scale, safe_std)


def _traced_statistics(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return mean and std of each channel, (channels,); the std of a constant channel is 1."""
    axes = tuple(range(x.ndim - 1))
    mean = traced_mean(x, axes)
    variance = jnp.square(x - mean).mean(axes)
    # The root of the chosen number, since the slope of a root at 0 is infinite.
    std = jnp.sqrt(jnp.where(variance > 0, variance, 1))
    return mean.reshape(-1), std


@maker
def normalize(
    mean: Sequence[Number] | jax.Array | np.ndarray,
    std: Sequence[Number] | jax.Array | np.ndarray,
) -> Fitted:
    """Map x -> (to_float(x) - mean) / std with known statistics of each channel.

    NumPy arrays of float64 are mapped in float64 and rounded afterwards, since a mean far above the
    spread, as of dates in seconds, would leave nothing of rounded numbers. Map such inputs before
    a run, which rounds them first.

    Args:
        mean: One number per channel, (channels,), on the scale of to_float(x).
        std: One number > 0 per channel, (channels,), on the same scale.

    Returns:
        A map of arrays (..., channels), as `standardize` fits it.

    Raises:
        ConfigError: A number is not finite, or a std is not positive.
        ShapeError: `mean` and `std` are not rows of equal length, or x has other channels.
        DTypeError: x is a masked array, or not of uint8 or floating-point numbers.
    """
    shape = _row_shape("normalize mean", mean, "(-inf, inf)")
    std_shape = _row_shape("normalize std", std, "(0, inf)")
    if std_shape != shape:
        expected = f"as many numbers as the mean, {shape}"
        raise ShapeError(
            "normalize std",
            expected,
            std_shape,
            "give one number per channel",
        )

    # The statistics have the dtype of x, so that a traced one does not promote it.
    def forward(x: jax.Array | np.ndarray) -> jax.Array:
        stored = plain_array("normalize x", x)
        if is_host_float64(stored, mean, std):
            expect_example_shape("normalize x", stored, shape)
            return jnp.asarray((stored - np.asarray(mean)) / np.asarray(std))
        x = expect_floats("normalize x", to_float(stored), shape)
        return (x - _broadcast(mean, x)) / _broadcast(std, x)

    def inverse(y: jax.Array | np.ndarray) -> jax.Array:
        y = expect_floats("normalize inverse y", plain_array("normalize inverse y", y), shape)
        return y * _broadcast(std, y) + _broadcast(mean, y)

    return Fitted(forward, inverse)


def _row_shape(
    where: str,
    row: Row,
    interval: str,
) -> Shape:
    """Return the shape (channels,) of the row, after a check of its numbers."""
    expected = "one number per channel, (channels,)"
    if isinstance(row, jax.Array | np.ndarray | np.generic):
        shape = tuple(row.shape)
    elif isinstance(row, Sequence) and row:
        shape = (len(row), *np.shape(row[0]))
    else:
        raise ShapeError(where, expected, repr(row), "give a list of numbers")
    if len(shape) != 1:
        raise ShapeError(where, expected, shape, "give a list of numbers")
    # The numbers of a list are checked even where others of them are traced.
    if checks.is_concrete(row):
        for channel, number in enumerate(row):
            checks.number(f"{where} {channel}", number, interval)
    return shape


def _broadcast(row: Row, x: jax.Array) -> jax.Array:
    """Reshape a row of numbers to the rank of `x`: (1, ..., 1, channels)."""
    if isinstance(row, jax.Array | np.ndarray):
        array = row
    else:
        # The numbers of a list are separate leaves, each of which may be traced.
        array = jnp.stack([jnp.asarray(number, x.dtype) for number in row])
    shape = (1,) * (x.ndim - 1) + (-1,)
    return jnp.asarray(array, x.dtype).reshape(shape)


def plain_array(where: str, x: Any) -> Any:
    """Return an array as JAX takes it: in native byte order.

    Raises DTypeError for masked entries, whose mask JAX would drop, and for text, objects, times
    and complex numbers, and for arrays that NumPy cannot read. Lists, numbers and arrays of JAX are
    returned as they are.
    """
    if isinstance(x, np.ma.MaskedArray):
        x = checks.unmasked(where, x)
    if isinstance(x, SEQUENCES):
        return x
    x = checks.as_array(where, x)
    if not isinstance(x, np.ndarray):
        return x
    # Objects, bytes, text, times, complex numbers.
    if x.dtype.kind in "OSUMmc":
        advice = "convert it first, as by x.astype(float)"
        raise DTypeError(where, "an array of real numbers", x.dtype, advice)
    # Long double: JAX has no such dtype.
    if x.dtype.kind == "f" and x.dtype.itemsize > 8:
        advice = "convert it first, as by x.astype(numpy.float64)"
        raise DTypeError(where, "floats of at most 64 bits", x.dtype, advice)
    return x.astype(x.dtype.newbyteorder("="), copy=False)


def is_host_float64(x: Any, *statistics: Any) -> bool:
    """Return whether x is a NumPy array of float64, and the statistics are known."""
    is_host = isinstance(x, np.ndarray) and x.dtype == np.float64
    return is_host and all(map(checks.is_concrete, jax.tree.leaves(statistics)))


def traced_inputs(where: str, train_inputs: Any, min_examples: int = 1) -> jax.Array:
    """Return traced training inputs as floats of at least 32 bits, after a check of their shape."""
    _expect_examples(where, train_inputs.shape, min_examples)
    x = to_float(train_inputs)
    _expect_real(where, x.dtype)
    is_float = jnp.issubdtype(x.dtype, jnp.floating)
    # Sums of 16-bit numbers would lose most of them.
    is_wide = is_float and x.dtype.itemsize >= 4
    return x if is_wide else x.astype(jnp.result_type(float))


def traced_mean(x: jax.Array, axes: int | Shape) -> jax.Array:
    """Mean with the axes kept; of equal numbers, exactly that number."""
    low = x.min(axes, keepdims=True)
    high = x.max(axes, keepdims=True)
    mean = x.mean(axes, keepdims=True)
    # The mean of what is left corrects the rounding of a sum of many numbers.
    mean = mean + (x - mean).mean(axes, keepdims=True)
    return jnp.where(low == high, low, mean)


def host_inputs(
    where: str,
    train_inputs: Any,
    min_examples: int = 1,
) -> np.ndarray:
    """Return the training inputs as a NumPy array, after a check of rank, count and numbers."""
    stored = np.asarray(plain_array(where, train_inputs))
    _expect_examples(where, stored.shape, min_examples)
    _expect_finite(where, stored)
    return stored


def _expect_examples(where: str, shape: Shape, min_examples: int) -> None:
    """Raise ShapeError unless there are examples with an axis of channels."""
    if len(shape) < 2:
        expected = "rank 2 or more (n, ..., channels)"
        raise ShapeError(
            where,
            expected,
            shape,
            "add a channel axis, x[..., None]",
        )
    # The axes of an example may be empty as well.
    if 0 in shape or shape[0] < min_examples:
        needed = "one example" if min_examples == 1 else "two examples"
        raise ShapeError(
            where,
            f"at least {needed}",
            shape,
            "fit on the training inputs",
        )


def _expect_real(where: str, dtype: Any) -> None:
    # issubdtype of jax.numpy, because that of NumPy does not know bfloat16.
    is_float = jnp.issubdtype(dtype, jnp.floating)
    if not is_float and not jnp.issubdtype(dtype, jnp.integer):
        expected = "uint8 or floating-point numbers"
        raise DTypeError(where, expected, dtype, "convert them first")


def _expect_finite(where: str, stored: np.ndarray) -> None:
    _expect_real(where, stored.dtype)
    nonfinite = ~np.isfinite(stored)
    if nonfinite.any():
        index = tuple(np.argwhere(nonfinite)[0].tolist())
        got = f"{stored[index]} at index {index}"
        raise NonFiniteError(
            where,
            "finite numbers",
            got,
            "leave such examples out",
        )


def byte_scale(stored: np.ndarray) -> int:
    """Return the divisor that `to_float` applies to numbers of this dtype."""
    return 255 if stored.dtype == np.uint8 else 1


def exact_mean(stored: np.ndarray, axes: int | Shape) -> np.ndarray:
    """Mean in float64 with the axes kept; of equal numbers, exactly that number."""
    # A sum of many equal numbers is rounded. Then a constant channel would have a small std > 0,
    # and dividing by it would turn rounding errors into noise.
    low = stored.min(axes, keepdims=True)
    high = stored.max(axes, keepdims=True)
    mean = np.mean(stored, axes, dtype=np.float64, keepdims=True)
    is_constant = low == high
    return np.where(is_constant, low.astype(np.float64), mean)


def expect_floats(
    where: str,
    x: Any,
    shape: Shape,
) -> jax.Array:
    """Return `x` as a JAX array, if it is floating-point and its last axes have this shape."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        expected = "uint8 or floating-point numbers"
        raise DTypeError(
            where,
            expected,
            x.dtype,
            "convert it, as by x.astype(float)",
        )
    expect_example_shape(where, x, shape)
    return x


def expect_example_shape(where: str, x: jax.Array | np.ndarray, shape: Shape) -> None:
    """Raise ShapeError unless the last axes have this shape; any axes may precede them."""
    example_shape = x.shape[-len(shape) :]
    if example_shape != shape:
        sizes = ", ".join(map(str, shape))
        advice = "give examples of the shape of the training inputs"
        raise ShapeError(where, f"(..., {sizes})", x.shape, advice)
