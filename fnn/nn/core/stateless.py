"""Layers without params and state: a function of x alone."""

from collections.abc import Callable
from typing import Any

import jax

from fnn import checks, trees
from fnn.types import Layer, Params, Shape, State


def stateless(
    name: str,
    out_shape: Callable[[Shape], Shape],
    function: Callable[[Any], Any],
    *,
    several: bool = False,
) -> Layer:
    """Make the layer y = function(x).

    Args:
        name: Name of the layer in a chain and in errors.
        out_shape: (shape) -> shape of y, both of one example.
        function: (x) -> y, for a batch.
        several: Whether x may be several arrays in a tuple or dict.

    Returns:
        A layer whose `apply` raises TreeMismatchError for any params.
    """

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        if not several:
            checks.one_shape(name, shape)
        return {}, {}, out_shape(shape)

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        trees.expect_arrays(name, params, {})
        if not several:
            checks.one_array(f"{name} x", x)
        return function(x), state

    return Layer(init, apply, name)
