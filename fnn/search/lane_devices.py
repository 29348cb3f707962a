"""Lanes divided over devices: each computes an equal part of them, with all of the data.

Whole runs exchange nothing. A program of lanes takes its arguments from all devices, and its
results are gathered on one: later operations, such as an index, would otherwise exchange parts, and
on CPU such programs can block each other.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fnn import checks
from fnn.errors import ConfigError
from fnn.search.lane_axes import map_axes
from fnn.train.layout import automatic


def expect_mesh(where: str, mesh: Any) -> Mesh | None:
    """Return the mesh over which lanes are divided; ConfigError if it is not one, or not ours.

    Args:
        where: Name of the argument in errors.
        mesh: A jax.sharding.Mesh with any axes, or None.
    """
    if mesh is None:
        return None
    if not isinstance(mesh, Mesh):
        raise ConfigError(
            where,
            "a jax.sharding.Mesh, over whose devices whole runs are divided",
            checks.show(mesh),
            'as in jax.make_mesh((8,), ("run",)); train.run divides the examples of one run',
        )
    others = {device.process_index for device in mesh.devices.flat} - {jax.process_index()}
    if others:
        raise ConfigError(
            where,
            f"devices of process {jax.process_index()} alone",
            f"some of process {min(others)}",
            "make it of jax.local_devices(); lab.optimize_study divides trials over processes",
        )
    return automatic(mesh)


def count_devices(mesh: Mesh | None) -> int:
    """Return the number of devices over which lanes are divided."""
    return 1 if mesh is None else mesh.size


def divide(
    mesh: Mesh | None, function: Callable[..., Any], in_axes: Any, out_axes: Any
) -> Callable[..., Any]:
    """Return a function of lanes of which each device computes an equal part.

    Args:
        mesh: The devices; None for the default device, and the function as it is.
        function: Of several arguments.
        in_axes: Axes of lanes of the arguments.
        out_axes: Axes of lanes of the results.
    """
    if mesh is None:
        return function
    specs = partial(map_axes, partial(_spec, mesh))
    divided: Callable[..., Any] = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=specs(in_axes),
        out_specs=specs(out_axes),
        # JAX cannot see that the step of all lanes is the same.
        check_vma=False,
    )
    return divided


def place(mesh: Mesh | None, axes: Any, arguments: Any) -> Any:
    """Return arguments on the devices where a divided function takes them.

    Args:
        mesh: The devices, or None.
        axes: Axes of lanes of the arguments.
        arguments: Arrays.
    """
    if mesh is None:
        return arguments

    def put(axis: int | None, part: Any) -> Any:
        return jax.device_put(part, NamedSharding(mesh, _spec(mesh, axis)))

    return map_axes(put, axes, arguments)


def gather(mesh: Mesh | None, results: Any) -> Any:
    """Return the results of a divided function on the first device of a mesh."""
    return results if mesh is None else jax.device_put(results, mesh.devices.flat[0])


def free_memory(mesh: Mesh | None) -> float:
    """Return the free memory of each device in bytes; infinity where it is not known."""
    device = jax.local_devices()[0] if mesh is None else mesh.devices.flat[0]
    # On CPU the memory is that of the machine.
    statistics = device.memory_stats() if device.platform != "cpu" else None
    if statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        # Devices that are parts of a CPU share it.
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / count_devices(mesh)
    return float("inf")


def _spec(mesh: Mesh, axis: int | None) -> P:
    """Return the partition of a part over all axes of a mesh, or none for an axis of None."""
    return P() if axis is None else P(mesh.axis_names)
