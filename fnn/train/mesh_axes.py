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
    # Outside of a shard_map nothing is traversed.
    if not axes:
        return tree

    def vary(leaf: jax.Array) -> jax.Array:
        return _vary(leaf, axes)

    return jax.tree.map(vary, tree)


def vary_like(tree: Any, like: Any) -> Any:
    """Return the tree, each leaf of which varies over the axes of its leaf in another tree.

    The carry of a loop keeps its type then, also where a step sets a leaf to a constant.

    Args:
        tree: Arrays.
        like: A tree of the same structure.
    """
    leaves = jax.tree.leaves(like)
    if not any(map(_axes, leaves)):
        return tree

    def vary(leaf: jax.Array, other: jax.Array) -> jax.Array:
        axes = _axes(other)
        return _vary(leaf, axes)

    return jax.tree.map(vary, tree, like)


def _vary(leaf: jax.Array, axes: set[str]) -> jax.Array:
    own_axes = _axes(leaf)
    missing = axes - own_axes
    if not missing:
        return leaf
    # The key of a run stays as it is.
    key_dtype = jax.dtypes.prng_key
    is_key = jnp.issubdtype(leaf.dtype, key_dtype)
    if is_key:
        return leaf
    # In a fixed order, so that equal programs are compiled once.
    in_order = sorted(missing)
    names = tuple(in_order)
    return jax.lax.pcast(leaf, names, to="varying")


def _axes(leaf: Any) -> set[str]:
    # Only traced values are within a shard_map.
    is_traced = isinstance(leaf, jax.core.Tracer)
    if not is_traced:
        return set()
    kind: Any = jax.typeof(leaf)
    # Versions of JAX before 0.10 have these axes as an attribute of the type.
    if not hasattr(kind, "manual_axis_type"):
        return set(kind.vma)
    axis_type = kind.manual_axis_type
    return set(axis_type.varying)
