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
    for name, leaf in trees.named_leaves(data).items():
        where = f"digest {name}".rstrip()
        if not checks.is_concrete(leaf):
            raise DTypeError(where, "known numbers", "a traced array", "call it outside of jax.jit")
        if isinstance(leaf, np.ma.MaskedArray):
            raise DTypeError(where, "an array without a mask", "a masked array", "fill it in")
        array = np.asarray(leaf)
        if array.dtype.kind in "OSUMm":
            raise DTypeError(where, "an array of numbers", array.dtype, "convert it first")
        # Little-endian and by rows, as most arrays lie.
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        total.update(f"{name} {array.dtype} {np.shape(leaf)};".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()
