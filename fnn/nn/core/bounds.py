"""Bounds of integers: an error where the values are known, NaN where they are traced."""

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import DTypeError, RangeError


def nan_outside_bounds(
    where: str,
    expected: str,
    x: jax.Array,
    low: int,
    high: int,
) -> jax.Array:
    """Return 1 where low <= x < high and NaN elsewhere, to multiply the results of indexing by x.

    The product makes both values and gradients NaN, where indexing would silently clamp or wrap.

    Args:
        where: Name of the argument, for errors.
        expected: The bounds in words, for errors.
        x: Integers of any shape.
        low: Smallest valid integer.
        high: One more than the largest valid integer.

    Returns:
        A float32 array of the shape of x.

    Raises:
        DTypeError: x does not hold integers.
        RangeError: x is concrete and has an integer out of bounds; names the first and its index.
    """
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise DTypeError(where, "an integer dtype", x.dtype, "cast them, as in x.astype(int)")
    if checks.is_concrete(x):
        _expect_bounds(where, expected, np.asarray(x), low, high)
    # Small integer dtypes cannot represent every bound: 300 would wrap in uint8.
    integers = x
    if x.dtype.itemsize <= 4:
        integers = x.astype(jnp.int32)
    is_valid = (integers >= low) & (integers < high)
    return jnp.where(is_valid, 1, jnp.nan).astype(jnp.float32)


def _expect_bounds(
    where: str,
    expected: str,
    values: np.ndarray,
    low: int,
    high: int,
) -> None:
    wrong = np.argwhere((values < low) | (values >= high))
    if not len(wrong):
        return
    # One row for each wrong value, in row-major order.
    index = tuple(wrong[0].tolist())
    share = f"{len(wrong)} of {values.size}"
    got = f"{values[index]} at index {index} ({share})"
    advice = "whole numbers are never clamped or wrapped; mend the data"
    raise RangeError(where, expected, got, advice)
