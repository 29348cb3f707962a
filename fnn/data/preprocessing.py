"""From stored numbers to what a network takes in."""

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

Row = Sequence[Number] | jax.Array | np.ndarray  # one number a channel


@dataclass(frozen=True, eq=False)
class Fitted:
    """A map that was fitted on the training inputs, to be applied anywhere, and its inverse.

    fitted(x) takes stored numbers, of bytes x / 255; fitted.inverse(y) gives them back on the scale of to_float(x).
    """

    forward: Callable[[jax.Array], jax.Array]
    inverse: Callable[[jax.Array], jax.Array]

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.forward(x)


def to_float(x: jax.Array) -> jax.Array:
    """Bytes 0..255 as floats x / 255 in [0, 1]; any other dtype passes unchanged."""
    x = jnp.asarray(x)
    return x.astype(jnp.result_type(float)) / 255 if x.dtype == jnp.uint8 else x


def standardize(train_inputs: jax.Array) -> Fitted:
    """The map x -> (to_float(x) - mean) / std, with each channel's mean and std over the training inputs alone.

    train_inputs (n, ..., channels), x (..., channels). A constant channel counts as of std 1, so it becomes 0. Give the
    map to `train.run(..., prepare=...)`, which applies it to training and validation alike. ShapeError for no examples
    and for other channels; DTypeError for integers other than uint8; NonFiniteError for training inputs that are not.
    """
    stored = on_host("standardize train_inputs", train_inputs)
    axes = tuple(range(stored.ndim - 1))
    mean = mean_of(stored, axes)
    std = np.std(stored, axes, dtype=np.float64, mean=mean) / unit(stored)
    return normalize(mean.reshape(-1) / unit(stored), np.where(std > 0, std, 1))


@maker
def normalize(
    mean: Sequence[Number] | jax.Array | np.ndarray, std: Sequence[Number] | jax.Array | np.ndarray
) -> Fitted:
    """The map x -> (to_float(x) - mean) / std with known statistics, as `standardize` fits them.

    Args:
        mean: One number a channel, (channels,), on the scale of to_float(x).
        std: One number a channel, (channels,), on that scale.

    Raises:
        ConfigError: A number is not finite, or a std is not positive.
        ShapeError: The two are no rows of one length, or x has other channels.
    """
    shape = _row_shape("normalize mean", mean, "(-inf, inf)")
    other = _row_shape("normalize std", std, "(0, inf)")
    if other != shape:
        raise ShapeError(
            "normalize std", f"as many numbers as the mean, {shape}", other, "give one a channel"
        )

    def forward(x: jax.Array) -> jax.Array:
        x = expect("normalize x", to_float(x), shape)
        return (x - _along(mean, x)) / _along(std, x)

    def inverse(y: jax.Array) -> jax.Array:
        y = expect("normalize inverse y", y, shape)
        return y * _along(std, y) + _along(mean, y)

    return Fitted(forward, inverse)


def _row_shape(where: str, row: Row, interval: str) -> Shape:
    """The shape (channels,) of a row of numbers; an error unless it is one, and each number lies in the interval."""
    if isinstance(row, jax.Array | np.ndarray | np.generic):
        shape = tuple(row.shape)
    elif isinstance(row, Sequence) and row:
        shape = (len(row), *np.shape(row[0]))
    else:
        raise ShapeError(
            where, "one number a channel, (channels,)", repr(row), "give a list of numbers"
        )
    if len(shape) != 1:
        raise ShapeError(
            where, "one number a channel, (channels,)", shape, "give a list of numbers"
        )
    if checks.is_concrete(row):
        for place, own in enumerate(row):
            checks.number(f"{where} {place}", own, interval)
    return shape


def _along(row: Row, x: jax.Array) -> jax.Array:
    """One number a channel, to meet the array."""
    array = (
        row
        if isinstance(row, jax.Array | np.ndarray)
        else jnp.stack([jnp.asarray(own, x.dtype) for own in row])
    )
    return jnp.asarray(array, x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


def on_host(where: str, train_inputs: Any, least: int = 1) -> np.ndarray:
    """The training inputs as they are stored, if there are so many examples of known, finite, real numbers."""
    if not checks.is_concrete(train_inputs):
        raise DTypeError(
            where,
            "known numbers",
            "a traced array",
            "fit outside of jax.jit, or close over the array",
        )
    stored = np.asarray(train_inputs)
    if stored.ndim < 2:
        raise ShapeError(
            where,
            "rank 2 or more (n, ..., channels)",
            stored.shape,
            "add a channel axis, x[..., None]",
        )
    if stored.size == 0 or len(stored) < least:
        needed = ("one example", "two examples")[least - 1]
        raise ShapeError(where, f"at least {needed}", stored.shape, "fit on the training inputs")
    if not any(jnp.issubdtype(stored.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise DTypeError(
            where, "uint8 or floating-point numbers", stored.dtype, "convert them first"
        )
    wrong = ~np.isfinite(stored)
    if wrong.any():
        index = tuple(np.argwhere(wrong)[0].tolist())
        raise NonFiniteError(
            where, "finite numbers", f"{stored[index]} at index {index}", "leave such examples out"
        )
    return stored


def unit(stored: np.ndarray) -> int:
    """What to_float divides such numbers by."""
    return 255 if stored.dtype == np.uint8 else 1


def mean_of(stored: np.ndarray, axes: int | Shape) -> np.ndarray:
    """The mean in float64, the axes kept; of equal numbers just that number, which a sum of many would round."""
    low, high = stored.min(axes, keepdims=True), stored.max(axes, keepdims=True)
    mean = np.mean(stored, axes, dtype=np.float64, keepdims=True)
    return np.where(low == high, low.astype(np.float64), mean)


def expect(where: str, x: jax.Array, shape: Shape) -> jax.Array:
    """The array, if its numbers are floating-point and its last axes have this shape."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise DTypeError(
            where, "uint8 or floating-point numbers", x.dtype, "convert it, as by x.astype(float)"
        )
    if x.shape[-len(shape) :] != shape:
        expected = f"(..., {', '.join(map(str, shape))})"
        raise ShapeError(
            where, expected, x.shape, "give examples of the shape of the training inputs"
        )
    return x
