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
    of_single_lane,
    seconds_of,
    stack_leaves,
)
from fnn.train.programs import shared
from fnn.train.recipe import Recipe


class LaneMap:
    """function(recipe, own, common) for many lanes, as one program.

    Attributes:
        size: Number of lanes at a time; 1 if they are computed one after another.
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
        self.size = 0 if lanes == "auto" else checks.whole("lanes", lanes)

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

        if not self.size:
            self.size = self._best_size(count, arguments, probe)
        size = min(self.size, count)
        results = []
        for first in range(0, count, size):
            # The last batch is padded by its last lane.
            indices = np.minimum(np.arange(first, first + size), count - 1)
            part = arguments(indices)
            done = self._compiled(size, part, common)(*part, common)
            results.append(jax.tree.map(np.asarray, done))
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)

    def _best_size(self, count: int, arguments: Callable[[np.ndarray], Any], probe: Any) -> int:
        """Return the number of lanes that takes the least time per lane."""
        if count == 1:
            return 1
        seconds, memory = self._measure(arguments(np.zeros(1, int)), probe)
        fitting = max(1, int(free_memory() * MEMORY_SHARE / max(memory, 1)))
        limit = MAX_LANES if jax.default_backend() == "cpu" else MAX_LANES_ELSEWHERE
        # Batches of equal size need the least padding.
        batches = -(-count // min(count, fitting, limit))
        size = -(-count // batches)
        if size == 1:
            return 1
        together, _ = self._measure(arguments(np.arange(size)), probe)
        return size if together / size < seconds else 1

    def _measure(self, part: Any, probe: Any) -> tuple[float, int]:
        """Return the seconds of one call, and the bytes of a lane."""
        size = len(jax.tree.leaves(part[1])[0])
        program = self._compiled(size, part, probe)
        # The first call allocates memory.
        jax.block_until_ready(program(*part, probe))
        seconds = seconds_of(lambda: program(*part, probe))
        analysis = program.memory_analysis()
        used = analysis.temp_size_in_bytes + 2 * analysis.output_size_in_bytes
        return seconds, used // size

    def _compiled(self, size: int, part: Any, common: Any) -> Any:
        """Return the compiled program, shared by recipes of this structure."""
        structure = jax.tree.structure(self._recipe)
        function = self._function

        def lane(leaves: list[Any], own: Any, common: Any) -> Any:
            recipe = jax.tree.unflatten(structure, leaves)
            # A part that is first built within a loop would hold tracers of that loop.
            _ = recipe.built
            return function(recipe, own, common)

        def compute() -> Any:
            axes = (0, 0, None)
            mapped = of_single_lane(lane, axes, 0) if size == 1 else jax.vmap(lane, axes)
            return jax.jit(mapped).lower(*part, common).compile()

        leaves, arguments = jax.tree.flatten((part, common))
        signature = tuple((np.shape(leaf), jnp.result_type(leaf).name) for leaf in leaves)
        return shared(self._recipe, ("lane map", self._name, size, signature, arguments), compute)
