"""Rematerialization: less memory for more computation."""

from typing import Any

import jax

from fnn.nn.core.composite import expect_layer, wrap_layer
from fnn.types import Layer, Params, State
from fnn.values import maker


@maker
def remat(layer: Layer) -> Layer:
    """Gradient checkpointing: the backward pass recomputes all that is between x and y.

    Only x is kept in memory. y, state and gradients are those of the layer, at about a third more
    computation. With remat of the block of a `repeat`, memory grows by one x a block [Chen et al.
    2016, arXiv:1604.06174].

    Args:
        layer: The layer. Its name, its params and its state stay the same.

    Raises:
        ConfigError: `layer` is not a Layer.
    """
    expect_layer("remat layer", layer)

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        # A function of the arrays alone, since jax.checkpoint would trace the flag `train`.
        @jax.checkpoint
        def run(
            params: Params,
            state: State,
            x: Any,
            key: jax.Array | None,
        ) -> tuple[Any, State]:
            return layer.apply(params, state, x, key=key, train=train)

        return run(params, state, x, key)

    return wrap_layer(layer, Layer(layer.init, apply), remat)
