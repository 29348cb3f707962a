"""Layers without params and state: a function of x alone."""

from collections.abc import Callable
from typing import Any

import jax

from fnn import trees
from fnn.types import Layer, Params, Shape, State


def stateless(
    name: str,
    out_shape: Callable[[Shape], Shape],
    function: Callable[[jax.Array], Any],
) -> Layer:
    """Make the layer y = function(x).

    Args:
        name: Name of the layer in a chain and in errors.
        out_shape: (shape) -> shape of y, both of one example.
        function: (x) -> y, for a batch.

    Returns:
        A layer whose `apply` raises TreeMismatchError for any params.
    """

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        return {}, {}, out_shape(shape)

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        trees.expect_arrays(name, params, {})
        return function(x), state

    return Layer(init, apply, name)
