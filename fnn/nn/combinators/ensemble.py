"""Several networks that learn as one."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.nn.combinators.stacked import BODY, apply_one, init_stacked, stacks
from fnn.nn.composite import expect_layer, filled
from fnn.types import Layer, Params, Shape, State
from fnn.values import maker


@maker
def ensemble(layer: Layer, n: int) -> Layer:
    """A layer n times side by side on the same x, each with its own arrays, y[:, i] = f_i(x).

    x (batch, ...) -> y (batch, n, ...). The params and the state are {"body": its own, stacked along a leading axis
    (n, ...)}; member i gets fold_in(key, i), so it begins and draws like no other. ConfigError unless n >= 1
    [Lakshminarayanan et al. 2017, arXiv:1612.01474].
    """
    checks.whole("ensemble n", n)
    expect_layer("ensemble body", layer)

    def build(place: jax.Array) -> Layer:
        return layer

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        params, state, member = init_stacked(build, n, key, shape)
        return params, state, jax.tree.map(lambda shape: (n, *shape), member, is_leaf=trees.is_shape)

    def apply(params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False):
        def one(place: jax.Array, params: Params, state: State) -> tuple[Any, State]:
            return apply_one(build, place, params, state, x, key, train)

        own = stacks("ensemble", n, params, state)
        y, new_state = jax.vmap(one, out_axes=(1, 0))(jnp.arange(n), *own)
        return y, filled({BODY: new_state})

    return Layer(init, apply, "ensemble", {BODY: layer}, lambda parts: ensemble(parts[BODY], n))
