"""Conversion between the leaves of a tree and bytes on the host."""

from typing import Any, NamedTuple

import jax
import numpy as np

from fnn import checks, trees
from fnn.errors import CheckpointCorruptError, ConfigError, DTypeError
from fnn.lab.checkpoints.manifest import ADVICE, DTYPES, KEY, Leaf


class Stored(NamedTuple):
    """A leaf in the form in which it is stored.

    Attributes:
        array: The array on the host, little-endian; of a key, its data.
        dtype: The name of the dtype in the manifest.
    """

    array: np.ndarray
    dtype: str

    @property
    def bytes(self) -> memoryview:
        """The bytes in C order, without a copy if the array is contiguous."""
        # A memoryview of uint8 is written and hashed without a copy.
        flat = np.ascontiguousarray(self.array).reshape(-1)
        return flat.view(np.uint8).data


def to_host(tree: Any, *, copy: bool) -> dict[str, Stored]:
    """Bring the leaves to the host, by path.

    With `copy`, NumPy arrays are copied, so that later changes by the caller do not reach them.
    JAX arrays need no copy: a reference keeps their memory alive through donation and deletion.
    """
    leaves = unique_leaves("tree", tree)
    for path, leaf in leaves.items():
        _expect_values(path, leaf)
    # All transfers are started before the first is awaited.
    for leaf in leaves.values():
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    return {path: _to_stored(path, leaf, copy) for path, leaf in leaves.items()}


def unique_leaves(where: str, tree: Any) -> dict[str, Any]:
    """Return the leaves by path; ConfigError if two have one, as in {"a/b": 1, "a": {"b": 2}}."""
    leaves = trees.named_leaves(tree)
    # Of two leaves with one path, the file could hold only one.
    if len(leaves) < len(jax.tree.leaves(tree)):
        raise ConfigError(
            where,
            "a unique path for each leaf",
            "one path for two",
            "leave / out of names",
        )
    return leaves


def is_key(leaf: Any) -> bool:
    """Return whether the leaf holds typed JAX keys."""
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def from_bytes(leaf: Leaf, raw: np.ndarray, where: str) -> Any:
    """Return the array or the keys stored in these bytes, uint8 (size,)."""
    # raw was checked by its digest; the sizes fit, as the manifest was checked.
    array = raw.view(leaf.storage_dtype).reshape(leaf.shape)
    where_leaf = f"{where} leaf {leaf.path!r}"
    # NumPy's functions assume that a boolean is the byte 0 or 1.
    if leaf.dtype == "bool" and raw.size and raw.max() > 1:
        raise CheckpointCorruptError(
            where_leaf,
            "bytes 0 and 1",
            int(raw.max()),
            ADVICE,
        )
    if not leaf.dtype.startswith(KEY):
        return array
    implementation = leaf.dtype.removeprefix(KEY)
    try:
        return jax.random.wrap_key_data(jax.device_put(array), impl=implementation)
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointCorruptError(
            where_leaf,
            "keys that JAX knows",
            reason,
            ADVICE,
        ) from None


def _expect_values(path: str, leaf: Any) -> None:
    """Raise ConfigError for an array without values in this process."""
    where = f"tree {path}"
    # A traced array has no values yet, and a donated one has none left.
    if isinstance(leaf, jax.core.Tracer):
        raise ConfigError(
            where,
            "an array with values",
            "a traced one",
            "save outside of jax.jit",
        )
    if not isinstance(leaf, jax.Array):
        return
    if leaf.is_deleted():
        raise ConfigError(
            where,
            "an array with values",
            "one donated to a program",
            "save the result of the program",
        )
    if not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        raise ConfigError(
            where,
            "an array of this process",
            "one spread over several",
            "gather it first",
        )


def _to_stored(path: str, leaf: Any, copy: bool) -> Stored:
    if is_key(leaf):
        # key_data is uint32, of a shape that depends on the implementation.
        implementation = jax.random.key_impl(leaf)
        return Stored(trees.read(jax.random.key_data(leaf)), f"{KEY}{implementation}")
    # An array without its mask would take masked entries for numbers.
    if isinstance(leaf, np.ma.MaskedArray):
        leaf = checks.unmasked(f"tree {path}", leaf)
    # None copies only if needed, as for a Python number; False would raise there.
    copy_array = copy or None
    is_jax = isinstance(leaf, jax.Array)
    array = trees.read(leaf) if is_jax else np.array(leaf, copy=copy_array)
    # The format is little-endian.
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    # Text, objects, records and dates have no entry.
    if DTYPES.get(array.dtype.name) != array.dtype:
        raise DTypeError(
            f"tree {path}",
            "an array of numbers, or keys",
            type(leaf).__name__,
            "leave it out",
        )
    return Stored(array, array.dtype.name)
