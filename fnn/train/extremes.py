"""The smallest and the largest number of an array of a user, and errors that name a wrong one."""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn import checks, trees

ON_HOST = "cpu"  # platform whose arrays NumPy reads without a copy
SMALL = 4096  # numbers, which a call of NumPy reads in less time than it takes to begin

# The number of values >= 0 of signed integers, and the unsigned dtype of the same size.
UNSIGNED = {
    np.dtype(f"i{size}"): (2 ** (8 * size - 1), np.dtype(f"u{size}")) for size in (1, 2, 4, 8)
}


class Extremes(NamedTuple):
    """The minimum and the maximum of an array, both NaN if it has a NaN."""

    low: float | int
    high: float | int


# The extremes of immutable arrays by id, so that data that is passed again is not read again.
_known: dict[int, tuple[Any, Extremes]] = {}


def read_extremes(array: Any, wait: bool = True) -> Extremes | None:
    """Return the extremes of an array, or None where its values cannot be read.

    Args:
        array: Of NumPy or JAX, of real numbers, on this host. A traced array has no values yet.
        wait: Whether to compute them on an accelerator, which waits for it.
    """
    if array.size == 0 or not checks.is_concrete(array):
        return None
    if isinstance(array, np.ndarray):
        return _reduce(array)
    known = _known.get(id(array))
    if known is not None:
        return known[1]
    # The values of other processes cannot be read.
    if not array.is_fully_addressable:
        return None
    if array.is_fully_replicated and is_on_host(array):
        extremes = _reduce(np.asarray(array))
    elif wait:
        # Not traced into a program that may be under construction.
        with jax.ensure_compile_time_eval():
            low, high = map(trees.read, jax.jit(_low_and_high)(array))
            extremes = Extremes(low.item(), high.item())
    else:
        return None
    key = id(array)
    _known[key] = weakref.ref(array, lambda _: _known.pop(key, None)), extremes
    return extremes


def has_known_extremes(array: jax.Array) -> bool:
    """Return whether the extremes of an array have been read before.

    Args:
        array: Of JAX.
    """
    return id(array) in _known


def is_on_host(array: jax.Array) -> bool:
    """Return whether NumPy reads an array without a copy.

    Args:
        array: Of JAX, not traced.
    """
    devices: Any = array.sharding.device_set
    return all(device.platform == ON_HOST for device in devices)


def _reduce(array: np.ndarray) -> Extremes:
    return Extremes(array.min().item(), array.max().item())


def _low_and_high(array: jax.Array) -> tuple[jax.Array, jax.Array]:
    return array.min(), array.max()


def raise_at_first(
    error: Callable[..., Exception],
    name: str,
    expected: str,
    values: np.ndarray,
    wrong: np.ndarray,
    advice: str,
) -> None:
    """Raise the error, naming the first wrong value and its index, if any value is wrong."""
    if not wrong.any():
        return
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    # A one-dimensional index reads better as a number.
    shown_index = index[0] if len(index) == 1 else index
    count = f"{int(wrong.sum())} of {wrong.size}"
    raise error(
        name,
        expected,
        f"{values[index]} at index {shown_index} ({count})",
        advice,
    )


def is_small_and_finite(array: Any) -> bool:
    """Return whether an array is small, of NumPy, and has finite numbers only."""
    if not isinstance(array, np.ndarray) or array.size > SMALL:
        return False
    return bool(np.isfinite(array).all())


def are_within(array: Any, classes: int, wait: bool) -> bool:
    """Return whether all integers of an array are in 0..classes - 1, or cannot be read."""
    unsigned = UNSIGNED.get(array.dtype)
    if unsigned is not None and isinstance(array, np.ndarray) and array.size:
        low_half, dtype = unsigned
        # As unsigned numbers, negative ones are in the upper half: one pass finds both ends.
        if classes <= low_half:
            return bool(array.view(dtype).max() < classes)
    extremes = read_extremes(array, wait)
    return extremes is None or (extremes.low >= 0 and extremes.high < classes)
