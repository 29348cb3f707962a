"""Leaves on their way to disk and back: arrays and keys on one side, bytes of the host on the other."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.errors import CheckpointCorruptError, ConfigError, DTypeError
from fnn.lab.checkpoints.manifest import DTYPES, KEY, WAY_OUT, Leaf


class Stored(NamedTuple):
    """A leaf as it will lie on disk: its array, and the dtype's name in the manifest."""

    array: np.ndarray
    dtype: str

    @property
    def bytes(self) -> memoryview:
        """Its bytes in a row, of the array's own memory if that is contiguous."""
        return np.ascontiguousarray(self.array).reshape(-1).view(np.uint8).data


def on_host(tree: Any, *, copy: bool) -> dict[str, Stored]:
    """The leaves by path; with copy, in memory that nobody writes to, as the caller may to arrays of NumPy.

    Those of JAX need none: while they are looked at, donating or deleting them leaves their memory alone.
    """
    leaves = unique_leaves("tree", tree)
    for path, leaf in leaves.items():
        _expect_there(path, leaf)
    for leaf in leaves.values():
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()  # all are under way before the first is waited for
    return {path: _stored(path, leaf, copy) for path, leaf in leaves.items()}


def unique_leaves(where: str, tree: Any) -> dict[str, Any]:
    """The leaves by path; ConfigError where two have the same, as those of {"a/b": 1, "a": {"b": 2}}."""
    leaves = trees.named_leaves(tree)
    if len(leaves) < len(jax.tree.leaves(tree)):
        raise ConfigError(
            where, "a path of its own for each leaf", "one path for two", "leave / out of names"
        )
    return leaves


def is_key(leaf: Any) -> bool:
    """Whether the leaf holds typed keys of JAX."""
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def from_bytes(leaf: Leaf, raw: np.ndarray, where: str) -> Any:
    """The array, or the keys, that these bytes are."""
    array = raw.view(leaf.bare).reshape(leaf.shape)
    if leaf.dtype == "bool" and raw.size and raw.max() > 1:
        raise CheckpointCorruptError(
            f"{where} leaf {leaf.path!r}", "bytes 0 and 1", int(raw.max()), WAY_OUT
        )
    if not leaf.dtype.startswith(KEY):
        return array
    try:
        return jax.random.wrap_key_data(jnp.asarray(array), impl=leaf.dtype.removeprefix(KEY))
    except (ValueError, TypeError) as error:
        told = str(error).splitlines()[0]
        raise CheckpointCorruptError(
            f"{where} leaf {leaf.path!r}", "keys that JAX knows", told, WAY_OUT
        ) from None


def _expect_there(path: str, leaf: Any) -> None:
    """Raise ConfigError for an array that has no values, or not here."""
    where = f"tree {path}"
    if isinstance(leaf, jax.core.Tracer):
        raise ConfigError(where, "an array with values", "a traced one", "save outside of jax.jit")
    if isinstance(leaf, jax.Array) and leaf.is_deleted():
        raise ConfigError(
            where,
            "an array with values",
            "one donated to a program",
            "save what the program returned",
        )
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        raise ConfigError(
            where, "an array of this process", "one spread over several", "gather it first"
        )


def _stored(path: str, leaf: Any, copy: bool) -> Stored:
    if is_key(leaf):
        return Stored(np.asarray(jax.random.key_data(leaf)), f"{KEY}{jax.random.key_impl(leaf)}")
    array = np.asarray(leaf) if isinstance(leaf, jax.Array) else np.array(leaf, copy=copy or None)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if DTYPES.get(array.dtype.name) != array.dtype:
        raise DTypeError(
            f"tree {path}", "an array of numbers, or keys", f"{type(leaf).__name__}", "leave it out"
        )
    return Stored(array, array.dtype.name)
