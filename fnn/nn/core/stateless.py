"""What the layers that hold nothing share: no params, no state, a function of x alone."""

from collections.abc import Callable
from typing import Any

import jax

from fnn import trees
from fnn.types import Layer, Params, Shape, State


def plain(
    name: str, out_shape: Callable[[Shape], Shape], function: Callable[[jax.Array], Any]
) -> Layer:
    """A layer y = function(x), called by that name. TreeMismatchError for params, since it has none."""

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
