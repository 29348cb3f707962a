"""Whole numbers that must lie between bounds: told on the host where they are known, by NaN where they are traced."""

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import DTypeError, RangeError


def within(where: str, wanted: str, x: jax.Array, low: int, high: int) -> jax.Array:
    """An array like x that is 1 where low <= x < high and NaN elsewhere, float32, to multiply what x leads to.

    So both the values and the gradients become NaN, where indexing would clamp or wrap in silence. DTypeError unless
    x holds integers; RangeError, naming the first wrong one and its place, if x is known while the call is made.
    """
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise DTypeError(where, "an integer dtype", x.dtype, "cast them, as in x.astype(int)")
    if checks.is_concrete(x):
        _expect_within(where, wanted, np.asarray(x), low, high)
    places = x if x.dtype.itemsize > 4 else x.astype(jnp.int32)  # a byte cannot be held against 300
    return jnp.where((places >= low) & (places < high), 1, jnp.nan).astype(jnp.float32)


def _expect_within(where: str, wanted: str, values: np.ndarray, low: int, high: int) -> None:
    wrong = np.argwhere((values < low) | (values >= high))
    if len(wrong):
        place = tuple(wrong[0].tolist())
        got = f"{values[place]} at index {place} ({len(wrong)} of {values.size})"
        raise RangeError(
            where, wanted, got, "whole numbers are never clamped or wrapped; mend the data"
        )
