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

Row = Sequence[Number] | jax.Array | np.ndarray  # one number per channel


@dataclass(frozen=True, eq=False)
class Fitted:
    """A map with fixed statistics, and its inverse; `fitted(x)` applies it.

    Attributes:
        forward: Function x -> y of stored inputs; bytes are scaled to x / 255 first.
        inverse: Function y -> x, on the scale of to_float(x).
    """

    forward: Callable[[jax.Array], jax.Array]
    inverse: Callable[[jax.Array], jax.Array]

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.forward(x)


def to_float(x: Any) -> Any:
    """Scale bytes 0..255 to floats x / 255 in [0, 1]; return arrays of any other dtype unchanged.

    Every array of a tuple, list or dict is converted on its own, so that inputs of several arrays
    keep their structure. Integers of other dtypes are numbers of tokens, lengths or classes, not
    levels: they stay integers. Cast such numbers from uint8 to int32 before.

    Args:
        x: Array of any shape and dtype, or a pytree of arrays.

    Returns:
        The same structure. Each uint8 array becomes one of the default float dtype and the same
        shape; all others are returned as JAX arrays.

    Raises:
        DTypeError: Entries of an array are masked, or it has another byte order.
    """
    return jax.tree.map(_scale_bytes, x)


def _scale_bytes(x: Any) -> jax.Array:
    # JAX would drop the mask.
    if isinstance(x, np.ma.MaskedArray):
        x = checks.unmasked("to_float x", x)
    if isinstance(x, np.ndarray):
        x = checks.native("to_float x", x)
    x = jnp.asarray(x)
    if x.dtype != jnp.uint8:
        return x
    return x.astype(jnp.result_type(float)) / 255


def standardize(train_inputs: jax.Array) -> Fitted:
    """Fit the map x -> (to_float(x) - mean) / std, with statistics of each channel.

    Mean and standard deviation are computed in float64 over all axes but the last. Give the map to
    `train.recipe(..., prepare=...)`, which applies it in training, validation and prediction.

    Args:
        train_inputs: Training inputs (n, ..., channels), uint8 or floating-point, not traced. Leave
            out validation and test inputs, so that their statistics do not leak into training.

    Returns:
        `normalize(mean, std)`, a map of arrays (..., channels). The std of a constant channel is
        set to 1, so that the channel becomes 0.

    Raises:
        ShapeError: There are no examples, or the map gets other channels.
        DTypeError: The inputs are traced, or integers other than uint8 reach the map.
        NonFiniteError: A training input is NaN or infinite.
    """
    stored = host_inputs("standardize train_inputs", train_inputs)
    # Statistics of the stored numbers are divided, so that bytes need not be copied as floats.
    scale = byte_scale(stored)
    axes = tuple(range(stored.ndim - 1))
    # (1, ..., 1, channels)
    mean = exact_mean(stored, axes)
    std = np.std(stored, axes, dtype=np.float64, mean=mean) / scale
    safe_std = np.where(std > 0, std, 1)
    return normalize(mean.reshape(-1) / scale, safe_std)


@maker
def normalize(
    mean: Sequence[Number] | jax.Array | np.ndarray,
    std: Sequence[Number] | jax.Array | np.ndarray,
) -> Fitted:
    """Map x -> (to_float(x) - mean) / std with known statistics of each channel.

    Args:
        mean: One number per channel, (channels,), on the scale of to_float(x).
        std: One number > 0 per channel, (channels,), on the same scale.

    Returns:
        A map of arrays (..., channels), as `standardize` fits it.

    Raises:
        ConfigError: A number is not finite, or a std is not positive.
        ShapeError: `mean` and `std` are not rows of equal length, or x has other channels.
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
    def forward(x: jax.Array) -> jax.Array:
        x = expect_floats("normalize x", to_float(x), shape)
        return (x - _broadcast(mean, x)) / _broadcast(std, x)

    def inverse(y: jax.Array) -> jax.Array:
        y = expect_floats("normalize inverse y", y, shape)
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


def host_inputs(
    where: str,
    train_inputs: Any,
    min_examples: int = 1,
) -> np.ndarray:
    """Return the training inputs as a NumPy array, after a check of rank, count and numbers."""
    if not checks.is_concrete(train_inputs):
        advice = "fit outside of jax.jit, or close over the array"
        raise DTypeError(where, "known numbers", "a traced array", advice)
    # NumPy would drop the mask.
    if isinstance(train_inputs, np.ma.MaskedArray):
        train_inputs = checks.unmasked(where, train_inputs)
    stored = np.asarray(train_inputs)
    if stored.ndim < 2:
        expected = "rank 2 or more (n, ..., channels)"
        raise ShapeError(
            where,
            expected,
            stored.shape,
            "add a channel axis, x[..., None]",
        )
    # The axes of an example may be empty as well.
    if stored.size == 0 or len(stored) < min_examples:
        needed = "one example" if min_examples == 1 else "two examples"
        raise ShapeError(
            where,
            f"at least {needed}",
            stored.shape,
            "fit on the training inputs",
        )
    _expect_finite(where, stored)
    return stored


def _expect_finite(where: str, stored: np.ndarray) -> None:
    # issubdtype of jax.numpy, because that of NumPy does not know bfloat16.
    is_float = jnp.issubdtype(stored.dtype, jnp.floating)
    if not is_float and not jnp.issubdtype(stored.dtype, jnp.integer):
        expected = "uint8 or floating-point numbers"
        raise DTypeError(where, expected, stored.dtype, "convert them first")
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
    x: jax.Array,
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
    # Any axes may precede those of an example.
    example_shape = x.shape[-len(shape) :]
    if example_shape != shape:
        sizes = ", ".join(map(str, shape))
        advice = "give examples of the shape of the training inputs"
        raise ShapeError(where, f"(..., {sizes})", x.shape, advice)
    return x
