"""Axes of lanes, as for jax.vmap: 0 for parts that have an axis of lanes, None for others."""

from collections.abc import Callable
from typing import Any

import jax


def sequential_map(
    function: Callable[..., Any],
    in_axes: Any,
    out_axes: Any,
) -> Any:
    """Return jax.vmap(function, in_axes, out_axes), computed for one index after another.

    Args:
        function: Of several arguments.
        in_axes: 0 or None for the parts of the arguments.
        out_axes: 0 or None for the parts of the results.
    """

    def split(axis: int | None, part: Any) -> Any:
        # A part without an axis leaves nothing to map over.
        return part if axis == 0 else ()

    def call(*arguments: Any) -> Any:
        def one(mapped: Any) -> Any:
            # The parts without an axis are taken from outside of the loop.
            given = map_axes(
                lambda axis, part, whole: part if axis == 0 else whole, in_axes, mapped, arguments
            )
            return function(*given)

        results = jax.lax.map(one, map_axes(split, in_axes, arguments))
        # All lanes have the same value of a part without an axis.
        return map_axes(
            lambda axis, part: part if axis == 0 else jax.tree.map(lambda leaf: leaf[0], part),
            out_axes,
            results,
        )

    return call


def map_axes(function: Callable[..., Any], axes: Any, *trees: Any) -> Any:
    """Apply function(axis, *parts) to the parts of trees.

    Args:
        function: Of an axis, and of the parts of the trees that have it.
        axes: 0 or None for each part.
        trees: Of one structure at the parts.
    """
    return jax.tree.map(function, axes, *trees, is_leaf=lambda axis: axis is None)
