"""Steps taken in place: update and addition as one, and on CPU each large parameter finished before the next is begun.

What it does. An optimizer's rule has several results an array: the new parameter and its slots. XLA:CPU makes a loop of
each of them (it has no loop with several results), and would run all first loops, then all second ones, so that every
array is read from memory again: 10 passes for Adam where 7 are needed. Inside of `lax.scan` it even copies parameters,
as it does not see that they can be overwritten. A conditional that it cannot decide is a wall: its loops run one after
the other, while the parameter is in the cache, and its results are written over its operands.
What it saves. benchmarks/optimizers.py: about a tenth outside and half inside of a scan.
When it can go. When XLA:CPU fuses loops with several results.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.types import Step
from fnn.walls import on_cpu_else, undecided

LARGE = 1 << 16  # numbers; below, an array is in the cache anyway, and a conditional costs more than it saves


def finished(function: Callable[..., Any], count: Step, kept: tuple[Any, ...], *others: Any) -> tuple[Any, ...]:
    """function(kept, *others), which are arrays like kept, written over it; count is any traced integer."""
    if max(array.size for array in jax.tree.leaves(kept)) < LARGE:
        return function(kept, *others)

    def on_cpu(kept: tuple[Any, ...], *others: Any) -> tuple[Any, ...]:
        # That the other branch gives back kept as it is tells XLA where to write.
        always = undecided(jnp.asarray(count, jnp.float32))
        return jax.lax.cond(always, function, lambda kept, *_: kept, kept, *others)

    return on_cpu_else(on_cpu, function)(kept, *others)
