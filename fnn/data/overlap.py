"""Examples that two data sets have in common."""

import hashlib
from typing import Any

import jax
import numpy as np

from fnn import checks, trees
from fnn.errors import DTypeError, ShapeError


def overlap(inputs: Any, others: Any) -> int:
    """Count the examples whose inputs occur among others, number by number.

    An overlap of training and test data makes figures too good, and one of training and calibration
    data makes a calibration too confident. Copies that differ, such as those of another
    compression, are not recognized.

    Args:
        inputs: Arrays whose first axis is the example; or a pytree of such arrays.
        others: Arrays of the same structure, dtypes and shapes of an example.

    Returns:
        The number of examples of `inputs` that are in `others`; each counts once, however often it
        occurs there.

    Raises:
        DTypeError: An array is traced.
        ShapeError: The examples differ in structure, shape or dtype.
    """
    first = _arrays("overlap inputs", inputs)
    second = _arrays("overlap others", others)
    own_kind = _kind(first)
    kind = _kind(second)
    if list(trees.named_leaves(inputs)) != list(trees.named_leaves(others)) or kind != own_kind:
        expected = f"examples like those of inputs, {own_kind}"
        raise ShapeError("overlap others", expected, kind, "prepare both alike")
    known = set(_digests(second))
    return sum(digest in known for digest in _digests(first))


def _arrays(where: str, inputs: Any) -> list[np.ndarray]:
    leaves = jax.tree.leaves(inputs)
    for leaf in leaves:
        if not checks.is_concrete(leaf):
            advice = "call it outside of jax.jit"
            raise DTypeError(where, "known numbers", "a traced array", advice)
    arrays = [np.ascontiguousarray(leaf) for leaf in leaves]
    if not arrays or any(np.ndim(leaf) < 1 or len(leaf) != len(leaves[0]) for leaf in leaves):
        shapes = [np.shape(leaf) for leaf in leaves]
        raise ShapeError(where, "arrays with a first axis of examples", shapes, "give inputs alone")
    return arrays


def _kind(arrays: list[np.ndarray]) -> str:
    """Return dtype and shape of an example as text."""
    return ", ".join(f"{array.dtype} {array.shape[1:]}" for array in arrays)


def _digests(arrays: list[np.ndarray]) -> list[bytes]:
    """Return a digest of the numbers of each example."""
    found = []
    for index in range(len(arrays[0])):
        total = hashlib.blake2b(digest_size=16)
        for array in arrays:
            total.update(array[index].tobytes())
        found.append(total.digest())
    return found
