"""Memory for time."""

from typing import Any

import jax

from fnn.nn.core.composite import expect_layer, in_place_of
from fnn.types import Layer, Params, State
from fnn.values import maker


@maker
def remat(layer: Layer) -> Layer:
    """The same layer, which keeps nothing for the backward pass but what it took in, and computes the rest anew.

    y, state and gradients are the layer's own, at about a third more computation; params and state keep their names.
    remat of the block of a `repeat` makes memory grow by one x a block [Chen et al. 2016, arXiv:1604.06174].
    """
    expect_layer("remat layer", layer)

    def apply(
        params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False
    ):
        @jax.checkpoint
        def run(params: Params, state: State, x: Any, key: jax.Array | None) -> tuple[Any, State]:
            return layer.apply(params, state, x, key=key, train=train)

        return run(params, state, x, key)

    return in_place_of(layer, Layer(layer.init, apply), remat)
