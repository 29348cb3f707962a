"""Layers that only move numbers."""

from math import prod

import jax

from fnn.types import Layer, Params, Shape, State


def flatten() -> Layer:
    """Each example as one vector: x (batch, ...) -> y (batch, features)."""

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        return {}, {}, (prod(shape),)

    def apply(params: Params, state: State, x: jax.Array, *, key: jax.Array | None = None, train: bool = False):
        return x.reshape(x.shape[0], prod(x.shape[1:])), state

    return Layer(init, apply)
