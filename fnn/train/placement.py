"""Placement of arrays on devices, some of which may belong to other processes."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from fnn import checks, trees
from fnn.errors import ConfigError


def put(tree: Any, sharding: Sharding) -> Any:
    """Copy arrays to the devices of a sharding, as jax.device_put does.

    Where the devices belong to several processes, each process places the parts of its own devices.
    Arrays of a process must then be the same on all of them.

    Args:
        tree: Arrays of NumPy or JAX, also traced.
        sharding: Of the arrays that are returned.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: _put_own(leaf, sharding), tree)


def _put_own(leaf: Any, sharding: Sharding) -> Any:
    is_local = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
    # JAX moves traced arrays, and those that are on these devices already.
    if not checks.is_concrete(leaf) or not is_local:
        return jax.device_put(leaf, sharding)
    if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
        words = _put_own(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
    host = trees.read(leaf)
    # A copy: on CPU, JAX would use the memory of the caller's array.
    host = np.array(host, jax.dtypes.canonicalize_dtype(host.dtype))
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def join_rows(rows: Any, counts: list[int], sharding: NamedSharding) -> jax.Array:
    """Return the rows of all processes as one array, in the order of the processes.

    The array is divided among the devices where their parts are equal, else copied to all of them.

    Args:
        rows: Those of this process, (rows, ...).
        counts: Number of rows of each process.
        sharding: Of the first axis, over devices of all processes.

    Raises:
        ConfigError: Devices of several processes have the same part.
    """
    host = trees.read(rows)
    devices = sharding.mesh.size
    # The parts are the distinct slices of an axis that all devices could divide.
    slices: Any = sharding.devices_indices_map((devices,))
    every = {index[0].start for index in slices.values()}
    own = {slices[device][0].start for device in sharding.addressable_devices}
    if len(own) * len(counts) != len(every):
        raise ConfigError(
            "mesh",
            "devices of one process in each part of the batch",
            f"{len(own)} of {len(every)} parts on process {jax.process_index()}",
            "name the axis of the examples first in jax.make_mesh",
        )
    if len(set(counts)) == 1 and len(host) % len(own) == 0:
        return jax.make_array_from_process_local_data(sharding, host)
    # Processes exchange arrays of one shape only.
    missing = max(counts) - len(host)
    padded = np.pad(host, ((0, missing), *((0, 0),) * (host.ndim - 1)))
    padded_parts = multihost_utils.process_allgather(padded)  # (processes, rows, ...)
    lengths = zip(padded_parts, counts, strict=True)
    whole = np.concatenate([part[:count] for part, count in lengths])
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    return jax.make_array_from_callback(whole.shape, everywhere, lambda index: whole[index])


def own_copy(tree: Any) -> Any:
    """Return whole arrays on a device of this process. Those of one process stay as they are.

    Arrays that are divided among processes are gathered, so that all processes must call this.
    """
    return jax.tree.map(_own_copy, tree)


def _own_copy(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return leaf
    if not leaf.is_fully_replicated:
        sharding: Any = leaf.sharding
        leaf = jax.device_put(leaf, NamedSharding(sharding.mesh, PartitionSpec()))
    return leaf.addressable_data(0)
