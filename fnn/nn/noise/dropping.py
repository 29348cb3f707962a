"""What the layers that drop share: which numbers of x go together, by one draw, and how the rest grows."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.types import Layer, Number, Params, Shape, State


def dropping(where: str, drop_rate: Number, draws: Callable[[Shape], Shape]) -> Layer:
    """A layer without params that drops in training, by draws of the shape draws(shape of one example)."""
    checks.number(f"{where} drop_rate", drop_rate, "[0, 1)")

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        draws(shape)  # raises where the shape cannot be
        return {}, {}, shape

    def apply(params: Params, state: State, x: jax.Array, *, key: jax.Array | None = None, train: bool = False):
        checks.floating(f"{where} x", x)
        trees.expect_arrays(where, params, {})
        own = (*x.shape[:1], *draws(x.shape[1:]))
        return thinned(where, key, x, drop_rate, own) if train else x, state

    return Layer(init, apply, where)


def thinned(where: str, key: jax.Array | None, x: jax.Array, drop_rate: Number, shape: Shape) -> jax.Array:
    """x m / (1 - drop_rate), where m ~ Bernoulli(1 - drop_rate) has that shape and is spread over x."""
    # Drawn flat: the same numbers as for the shape itself, in half the time to compile.
    kept = jax.random.bernoulli(checks.key(f"{where} key", key), 1 - drop_rate, (math.prod(shape),)).reshape(shape)
    wide = x.astype(trees.wide(x))
    return jnp.where(kept, wide / (1 - trees.knob(drop_rate, wide)), 0).astype(x.dtype)
