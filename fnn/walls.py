"""Walls that XLA:CPU does not fuse across, and what is done on CPU alone."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def walled(function: Callable[..., Any], *arrays: Array) -> Any:
    """function(*arrays), worked out by itself on CPU: a conditional that XLA cannot decide there keeps its loops apart.

    What it does. XLA:CPU fuses loops as far as it can. A gather that is fused with what follows works out every index
    for every byte, what is drawn for an image is worked out anew for every pixel, and an activation for each of the
    places of a convolution that looks at it. A conditional's operands and results are in memory.
    What it saves. benchmarks/augmentation.py: a crop takes a tenth of the time; benchmarks/cnn_step.py.
    When it can go. When XLA:CPU repeats no more work than it saves.
    """
    number = arrays[0].reshape(-1)[:1].sum().astype(jnp.float32)
    # Elsewhere it is decided, and the conditional goes.
    always = on_cpu_else(undecided, lambda x: jnp.ones_like(x, bool))(number)

    def never(*own: Array) -> Any:
        return jax.tree.map(jnp.zeros_like, function(*own))  # so that in a shard_map they vary as the results do

    return jax.lax.cond(always, function, never, *arrays)


def undecided(number: Array) -> Array:
    """True, which XLA does not know: no float is less than -inf, and neither is NaN."""
    return ~(number < -jnp.inf)


def on_cpu_else(cpu: Callable[..., Any], default: Callable[..., Any]) -> Callable[..., Any]:
    """The function that is one of the two by the platform that it is compiled for."""
    return lambda *arrays: jax.lax.platform_dependent(*arrays, cpu=cpu, default=default)
