"""Programs of lanes: a function of recipes that differ in numbers alone, compiled once for all.

`LaneProgram` computes some lanes in one call, mapped by jax.vmap or one after another, whichever
takes less time. `LaneMap` computes any number of lanes with it.

On a mesh, the number of lanes at a time is that of each device.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from fnn import checks
from fnn.errors import ConfigError
from fnn.search.brackets import best_lanes
from fnn.search.lane_axes import sequential_map
from fnn.search.lane_devices import count_devices, divide, free_memory, gather, place
from fnn.train.programs import shared
from fnn.train.recipe import Recipe

MEMORY_SHARE = 0.5  # of the free memory that a program may use
MAX_LANES_ELSEWHERE = 1024
# On CPU the time per lane hardly falls beyond 64 lanes, unless all of them fit into the cache.
MAX_LANES, MAX_LANES_IN_CACHE = 64, 256
CACHE = 32e6  # bytes
CALLS = 5  # that are measured
MEASUREMENT = 0.1  # seconds after which no further call is measured
SEQUENCE = 8  # most lanes of one call, where they are computed one after another
# Share of the time of lanes one after another that lanes together may take. They need more memory,
# and a difference of few percent is noise.
GAIN = 0.95
OVERHEAD = 0.25  # of such a call, in times of a lane; it decides between calls and padding


class LaneProgram:
    """function(recipe, own, common) for some lanes at a time.

    Args:
        name: Everything that the function depends on besides the recipe and its arguments.
        function: (recipe, arguments of a lane, arguments in common) -> results of the lane.
        recipe: One of the recipes.
        own_axes: 0 for the parts of the arguments of a lane that have an axis of lanes, None for
            others, as for jax.vmap.
        out_axes: The same for the results.
        mesh: The devices over which lanes are divided; None for the default device.
    """

    def __init__(
        self,
        name: Hashable,
        function: Callable[[Recipe, Any, Any], Any],
        recipe: Recipe,
        own_axes: Any = 0,
        out_axes: Any = 0,
        mesh: Mesh | None = None,
    ):
        self._name = name
        self._function = function
        self._recipe = recipe
        # Of the leaves of the recipes, the arguments of the lanes, and those in common.
        self._axes = (0, own_axes, None)
        self._out_axes = out_axes
        self._mesh = mesh

    def place(self, leaves: list[Any], own: Any, common: Any) -> tuple[list[Any], Any, Any]:
        """Return the arguments of `compiled` and of its function where the program takes them."""
        placed: Any = place(self._mesh, self._axes, (leaves, own, common))
        return placed

    def gather(self, results: Any) -> Any:
        """Return the results of the program on one device."""
        return gather(self._mesh, results)

    def compiled(
        self,
        leaves: list[Any],
        own: Any,
        common: Any,
        *,
        is_mapped: bool,
    ) -> Any:
        """Return the compiled function of these arguments, shared by recipes of this structure.

        Args:
            leaves: Of the recipes, (lanes, ...); all arguments as `place` returns them.
            own: The arguments of the lanes.
            common: The arguments in common, which are not copied for the lanes.
            is_mapped: Whether the lanes are computed together, by jax.vmap, or one after another.
        """
        _expect_known((leaves, own))
        structure = jax.tree.structure(self._recipe)
        function = self._function

        def lane(leaves: list[Any], own: Any, common: Any) -> Any:
            recipe = jax.tree.unflatten(structure, leaves)
            # A part that is first built within a loop would hold tracers of that loop.
            _ = recipe.built
            return function(recipe, own, common)

        def compute() -> Any:
            transform = jax.vmap if is_mapped else sequential_map
            mapped = transform(lane, self._axes, self._out_axes)
            divided = divide(self._mesh, mapped, self._axes, self._out_axes)
            # Compiled before the first call, so that it can be measured and shared.
            return jax.jit(divided).lower(leaves, own, common).compile()

        # Shapes and dtypes decide which program this is; the default dtype may change.
        key = ("lanes", self._name, is_mapped, self._mesh, signature((leaves, own, common)))
        return shared(self._recipe, key, compute)

    def measure(
        self, leaves: list[Any], own: Any, common: Any, *, size: int, is_mapped: bool
    ) -> tuple[float, float]:
        """Return the seconds and the bytes of memory of one lane, where each device has some.

        Args:
            leaves: Of the recipes, (lanes, ...).
            own: The arguments of the lanes.
            common: The arguments in common.
            size: Number of lanes of a device.
            is_mapped: As for `compiled`.
        """
        leaves, own, common = self.place(leaves, own, common)
        program = self.compiled(leaves, own, common, is_mapped=is_mapped)
        # The first call allocates memory.
        jax.block_until_ready(program(leaves, own, common))
        seconds = least_seconds(lambda: jax.block_until_ready(program(leaves, own, common)))
        analysis = program.memory_analysis()
        # Lanes one after another share the memory of temporary values.
        temporary = analysis.temp_size_in_bytes / (size if is_mapped else 1)
        return seconds / size, temporary + 2 * analysis.output_size_in_bytes / size


def best_width(
    stages: Sequence[tuple[int, int]],
    measure: Callable[[int], tuple[float, float]],
    mesh: Mesh | None = None,
) -> int:
    """Return the number of lanes at a time that takes the least time; 1 for one after another.

    Args:
        stages: (lanes, length) of each part of the work; all lanes of a stage have one length.
        measure: (number of lanes at a time) -> seconds and bytes of memory of one lane.
        mesh: The devices, of which each has these stages; None for the default device.
    """
    count = max(lanes for lanes, _ in stages)
    if count == 1:
        return 1
    # The memory of one lane limits the number of lanes before a wider program is compiled.
    alone, memory = measure(1)
    fitting = max(1, int(free_memory(mesh) * MEMORY_SHARE / max(memory, 1)))
    width = best_lanes(stages, min(count, fitting, _most_lanes(memory)))
    if width == 1:
        return 1
    # Measured, since lanes of large convolutions are slower than single runs.
    together, _ = measure(width)
    seconds_together = together * _padded(stages, width)
    seconds_alone = alone * _padded(stages, batch_size_of(1, stages))
    return width if seconds_together < GAIN * seconds_alone else 1


def _most_lanes(memory: float) -> int:
    """Return the largest number of lanes at a time that may be faster than fewer.

    Args:
        memory: Bytes of one lane.
    """
    if jax.default_backend() != "cpu":
        return MAX_LANES_ELSEWHERE
    in_cache = int(CACHE / max(memory, 1))
    return max(MAX_LANES, min(in_cache, MAX_LANES_IN_CACHE))


def batch_size_of(width: int, stages: Sequence[tuple[int, int]]) -> int:
    """Return the number of lanes of one call.

    Args:
        width: Number of lanes at a time; 1 for one after another.
        stages: As for `best_width`.
    """
    count = max(lanes for lanes, _ in stages)
    if width > 1:
        return min(width, count)
    # Ten lanes are two calls of five: of two calls of eight, six lanes would be padding.
    return best_lanes(stages, min(SEQUENCE, count), OVERHEAD)


def _padded(stages: Sequence[tuple[int, int]], size: int) -> int:
    """Return lanes times length of all stages, with the padding of the last call of each."""
    return sum(-(-lanes // size) * size * length for lanes, length in stages)


def batches(count: int, size: int) -> list[np.ndarray]:
    """Return the indices of the lanes of each call; the last one is padded by its last lane."""
    starts = range(0, count, size)
    return [np.minimum(np.arange(first, first + size), count - 1) for first in starts]


class LaneMap:
    """function(recipe, own, common) for any number of lanes.

    Attributes:
        width: Number of lanes at a time; 1 if they are computed one after another; 0 if it is
            chosen by the first call.
    """

    def __init__(
        self,
        name: Hashable,
        function: Callable[[Recipe, Any, Any], Any],
        recipe: Recipe,
        lanes: int | str = "auto",
        mesh: Mesh | None = None,
    ):
        """Prepare the map; the number of lanes is chosen by the first call.

        Args:
            name: Everything that the function depends on besides the recipe and its arguments.
            function: (recipe, arguments of a lane, arguments in common) -> arrays.
            recipe: One of the recipes.
            lanes: A number for each device; or "auto" for as many as fit into memory, or one after
                another where a measurement says that this is faster.
            mesh: The devices over which lanes are divided; None for the default device.
        """
        self._program = LaneProgram(name, function, recipe, mesh=mesh)
        self._mesh = mesh
        self.width = 0 if lanes == "auto" else checks.whole("lanes", lanes)

    def __call__(
        self,
        recipes: Sequence[Recipe],
        own: Callable[[np.ndarray], Any],
        common: Any,
        *,
        probe: Any,
    ) -> Any:
        """Return the results of all lanes, arrays of NumPy with a first axis of lanes.

        Args:
            recipes: One for each lane, of one structure.
            own: From indices of lanes (n,) to their arguments, arrays with a first axis of size n.
                They are made for each batch of lanes, so that memory holds those of one batch.
            common: The arguments in common.
            probe: Arguments in common that take less time, with which the number of lanes is
                chosen.
        """
        leaves = stack_leaves(recipes)
        count = len(recipes)
        devices = count_devices(self._mesh)
        # Of each device.
        stages = [(-(-count // devices), 1)]

        def measure(width: int) -> tuple[float, float]:
            # A call of the size that would be used, since the time of a lane depends on it.
            size = batch_size_of(width, stages)
            indices = np.minimum(np.arange(size * devices), count - 1)
            part = take(leaves, indices), own(indices), probe
            return self._program.measure(*part, size=size, is_mapped=width > 1)

        if not self.width:
            self.width = best_width(stages, measure, self._mesh)
        results = []
        for indices in batches(count, batch_size_of(self.width, stages) * devices):
            part = self._program.place(take(leaves, indices), own(indices), common)
            # Placed once.
            common = part[2]
            program = self._program.compiled(*part, is_mapped=self.width > 1)
            results.append(jax.tree.map(np.asarray, program(*part)))
        # Without the padding of the last batch.
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)


# Arguments and shapes.


def _expect_known(arguments: Any) -> None:
    """Raise ConfigError for traced arguments: programs are compiled and chosen on the host."""
    if not all(map(checks.is_concrete, jax.tree.leaves(arguments))):
        raise ConfigError(
            "lanes",
            "a key and recipes of known numbers",
            "traced ones, within jax.jit, vmap or grad",
            "call this function outside of them, or map train.run, as by jax.vmap over keys",
        )


def stack_leaves(recipes: Sequence[Recipe]) -> list[Any]:
    """Return the leaves of recipes of one structure, each with a first axis of recipes."""
    _expect_known(list(recipes))
    dtype = jnp.result_type(float)

    def array(leaf: Any) -> Any:
        # A float of Python has no dtype, and gets the default one.
        return np.asarray(leaf, dtype) if isinstance(leaf, float) else np.asarray(leaf)

    flat = [list(map(array, jax.tree.leaves(recipe))) for recipe in recipes]
    # recipes of leaves -> leaves (recipes, ...)
    return [np.stack(leaves) for leaves in zip(*flat, strict=True)]


def take(leaves: list[Any], indices: np.ndarray) -> list[Any]:
    """Return the leaves of the recipes of these indices."""
    return [leaf[indices] for leaf in leaves]


def signature(tree: Any) -> Hashable:
    """Return structure, shapes and dtypes of the arrays of a tree, and the default dtype."""
    leaves, structure = jax.tree.flatten(tree)
    shapes = tuple((np.shape(leaf), jnp.result_type(leaf).name) for leaf in leaves)
    return structure, shapes, jnp.result_type(float).name


def least_seconds(call: Callable[[], Any]) -> float:
    """Return the least time of a few calls; one call if it takes long."""
    end = time.perf_counter() + MEASUREMENT
    times: list[float] = []
    # Other programs can delay a short call by more than the difference to be measured.
    while not times or (time.perf_counter() < end and len(times) < CALLS):
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return min(times)
