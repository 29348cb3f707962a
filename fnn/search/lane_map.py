"""Map a function over lanes with arguments of their own, some number of lanes at a time.

`Lanes` trains recipes that have key and data in common. Here each lane has further arguments, such
as the examples of a fold, and arguments that all lanes have in common are not copied.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.search.lanes import (
    MAX_LANES,
    MAX_LANES_ELSEWHERE,
    MEMORY_SHARE,
    free_memory,
    seconds_of,
    stack_leaves,
)
from fnn.train.programs import shared
from fnn.train.recipe import Recipe

SEQUENCE = 8  # lanes of one call, where they are computed one after another


class LaneMap:
    """function(recipe, own, common) for many lanes, as one program.

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
    ):
        """Prepare the map; the number of lanes is chosen by the first call.

        Args:
            name: Everything that the function depends on besides the recipe and its arguments.
            function: (recipe, arguments of a lane, arguments in common) -> arrays.
            recipe: One of the recipes.
            lanes: A number; or "auto" for as many as fit into memory, or one after another where a
                measurement says that this is faster.
        """
        self._name = name
        self._function = function
        self._recipe = recipe
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

        def arguments(indices: np.ndarray) -> Any:
            return [leaf[indices] for leaf in leaves], own(indices)

        if not self.width:
            self.width = self._best_width(count, arguments, probe)
        width = min(self.width, count)
        size = width if width > 1 else min(SEQUENCE, count)
        results = []
        for first in range(0, count, size):
            # The last batch is padded by its last lane.
            indices = np.minimum(np.arange(first, first + size), count - 1)
            part = arguments(indices)
            done = self._compiled(width, part, common)(*part, common)
            results.append(jax.tree.map(np.asarray, done))
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)

    def _best_width(
        self,
        count: int,
        arguments: Callable[[np.ndarray], Any],
        probe: Any,
    ) -> int:
        """Return the number of lanes at a time that takes the least time per lane."""
        if count == 1:
            return 1
        alone, memory = self._measure(1, arguments(np.arange(min(SEQUENCE, count))), probe)
        fitting = max(1, int(free_memory() * MEMORY_SHARE / max(memory, 1)))
        limit = MAX_LANES if jax.default_backend() == "cpu" else MAX_LANES_ELSEWHERE
        # Batches of equal size need the least padding.
        batches = -(-count // min(count, fitting, limit))
        width = -(-count // batches)
        if width == 1:
            return 1
        together, _ = self._measure(width, arguments(np.arange(width)), probe)
        return width if together < alone else 1

    def _measure(
        self,
        width: int,
        part: Any,
        probe: Any,
    ) -> tuple[float, int]:
        """Return the seconds and the bytes of memory of one lane."""
        size = len(jax.tree.leaves(part)[0])
        program = self._compiled(width, part, probe)
        # The first call allocates memory.
        jax.block_until_ready(program(*part, probe))
        seconds = seconds_of(lambda: program(*part, probe)) / size
        analysis = program.memory_analysis()
        # Lanes one after another share the memory of temporary values.
        used = analysis.temp_size_in_bytes / width + 2 * analysis.output_size_in_bytes / size
        return seconds, int(used)

    def _compiled(
        self,
        width: int,
        part: Any,
        common: Any,
    ) -> Any:
        """Return the compiled program of a batch of lanes, shared by recipes of this structure."""
        structure = jax.tree.structure(self._recipe)
        function = self._function

        def lane(
            leaves: list[Any],
            own: Any,
            common: Any,
        ) -> Any:
            recipe = jax.tree.unflatten(structure, leaves)
            # A part that is first built within a loop would hold tracers of that loop.
            _ = recipe.built
            return function(recipe, own, common)

        def one_after_another(
            leaves: list[Any],
            own: Any,
            common: Any,
        ) -> Any:
            return jax.lax.map(lambda parts: lane(parts[0], parts[1], common), (leaves, own))

        def compute() -> Any:
            mapped = jax.vmap(lane, (0, 0, None)) if width > 1 else one_after_another
            return jax.jit(mapped).lower(*part, common).compile()

        # Shapes and dtypes decide which program this is.
        leaves, arguments = jax.tree.flatten((part, common))
        signature = tuple((np.shape(leaf), jnp.result_type(leaf).name) for leaf in leaves)
        # The default dtype changes under jax.enable_x64.
        dtype = jnp.result_type(float).name
        key = ("lane map", self._name, width, dtype, signature, arguments)
        return shared(self._recipe, key, compute)
