"""A digest of data, to recognize the data of an earlier run."""

import hashlib
from typing import Any

import numpy as np

from fnn import checks, trees
from fnn.errors import DTypeError


def digest(data: Any) -> str:
    """SHA-256 of the names, dtypes, shapes and numbers of all arrays in a tree.

    Equal data has equal digests on every machine, whether its arrays are of NumPy or JAX and in
    whichever order they lie in memory. A run can keep it in its notes and compare it before it
    resumes.

    Args:
        data: A pytree of arrays of numbers, such as (inputs, targets); not traced.

    Returns:
        64 hexadecimal digits.

    Raises:
        DTypeError: An array is traced or masked, or does not hold numbers.
    """
    total = hashlib.sha256()
    leaves = trees.named_leaves(data)
    for name, leaf in leaves.items():
        where = f"digest {name}".rstrip()
        array = _expect_numbers(where, leaf)
        # Little-endian and by rows, as most arrays lie.
        dtype = array.dtype.newbyteorder("<")
        array = np.ascontiguousarray(array, dtype)
        # Equal bytes of other shapes or dtypes are other data. A scalar has become (1,) above.
        shape = np.shape(leaf)
        label = f"{name} {array.dtype} {shape};"
        total.update(label.encode())
        flat = array.reshape(-1)
        stored = flat.view(np.uint8)
        # The memory of the array, without a copy.
        total.update(stored.data)
    return total.hexdigest()


def _expect_numbers(where: str, leaf: Any) -> np.ndarray:
    """Return a leaf as an array of NumPy; DTypeError if its bytes are not its numbers."""
    if not checks.is_concrete(leaf):
        expected = "known numbers"
        advice = "call it outside of jax.jit"
        raise DTypeError(
            where,
            expected,
            "a traced array",
            advice,
        )
    if isinstance(leaf, np.ma.MaskedArray):
        expected = "an array without a mask"
        raise DTypeError(
            where,
            expected,
            "a masked array",
            "fill it in",
        )
    array = np.asarray(checks.as_array(where, leaf))
    # Objects and text have no numbers, and times have a unit.
    if array.dtype.kind in "OSUMm":
        expected = "an array of numbers"
        raise DTypeError(
            where,
            expected,
            array.dtype,
            "convert it first",
        )
    return array
