"""Mesh axes over which the values of a run vary, within jax.shard_map.

Within shard_map a constant, such as a bias of zeros, is the same on all devices, and JAX sums its
gradient over them. The members of an ensemble would then share it. So the train state of a run must
vary over the axes that its key or its recipe vary over. Elsewhere there are no such axes.
"""

from typing import Any

import jax
import jax.numpy as jnp


def vary_by(tree: Any, sources: Any) -> Any:
    """Return the tree, made to vary over every mesh axis that one of the sources varies over.

    Args:
        tree: Arrays.
        sources: Arrays or numbers.
    """
    axes: set[str] = set()
    for leaf in jax.tree.leaves(sources):
        axes |= _axes(leaf)
    return jax.tree.map(lambda leaf: _vary(leaf, axes), tree) if axes else tree


def vary_like(tree: Any, like: Any) -> Any:
    """Return the tree, each leaf of which varies over the axes of its leaf in another tree.

    The carry of a loop keeps its type then, also where a step sets a leaf to a constant.

    Args:
        tree: Arrays.
        like: A tree of the same structure.
    """
    if not any(map(_axes, jax.tree.leaves(like))):
        return tree
    return jax.tree.map(lambda leaf, other: _vary(leaf, _axes(other)), tree, like)


def _vary(leaf: jax.Array, axes: set[str]) -> jax.Array:
    missing = tuple(sorted(axes - _axes(leaf)))
    # The key of a run stays as it is.
    if not missing or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return jax.lax.pcast(leaf, missing, to="varying")


def _axes(leaf: Any) -> set[str]:
    # Only traced values are within a shard_map.
    if not isinstance(leaf, jax.core.Tracer):
        return set()
    kind: Any = jax.typeof(leaf)
    # Versions of JAX before 0.10 have these axes as an attribute of the type.
    return set(kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma)
