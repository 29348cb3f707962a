"""Noise that regularizes."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.types import Layer, Number, Params, Shape, State


def dropout(drop_rate: Number) -> Layer:
    """In training each number is dropped by chance, and the rest grows to keep the mean: y = x m / (1 - drop_rate).

    m ~ Bernoulli(1 - drop_rate), drawn anew for every number; with train=False y = x. ConfigError unless
    0 <= drop_rate < 1; DTypeError in training without a key [Srivastava et al. 2014, JMLR 15].
    """
    checks.number("dropout drop_rate", drop_rate, "[0, 1)")

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        return {}, {}, shape

    def apply(params: Params, state: State, x: jax.Array, *, key: jax.Array | None = None, train: bool = False):
        checks.floating("dropout x", x)
        trees.expect_arrays("dropout", params, {})
        if not train:
            return x, state
        # Drawn flat: the same numbers as for the shape itself, in half the time to compile.
        kept = jax.random.bernoulli(checks.key("dropout key", key), 1 - drop_rate, (x.size,))
        wide = x.astype(trees.wide(x))
        return jnp.where(kept.reshape(x.shape), wide / (1 - trees.knob(drop_rate, wide)), 0).astype(x.dtype), state

    return Layer(init, apply)
