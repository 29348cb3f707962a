"""A price on what a layer gives."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.composite import expect_layer, expect_names, filled, in_place_of
from fnn.types import PENALTY, Layer, Params, Scalar, State
from fnn.values import maker

BODY = "body"


@maker
def activity_regularizer(layer: Layer, penalty: Callable[[Any], Scalar]) -> Layer:
    """The layer, whose outputs cost: in training penalty(y) / batch is added to the loss, a mean over examples.

    `penalty` is a function of y, of its sum over all examples, such as objective.l1(1e-4). The state is {"body": the
    layer's own, "penalty": the price}, 0 before training and outside of it; `train` adds up every leaf of that name.
    ConfigError for a penalty that is no function; ShapeError for one that gives no scalar.
    """
    expect_layer("activity_regularizer layer", layer)
    if not callable(penalty):
        raise ConfigError(
            "activity_regularizer penalty",
            "a function of an array",
            repr(penalty),
            "such as objective.l2(1e-4)",
        )

    def init(key: jax.Array, shape: Any) -> tuple[Params, State, Any]:
        params, state, out_shape = layer.init(key, shape)
        return params, filled({BODY: state, PENALTY: jnp.zeros(())}), out_shape

    def apply(
        params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False
    ):
        expect_names("activity", [BODY, PENALTY], state)
        trees.expect_arrays(
            "activity", {name: state[name] for name in state if name == PENALTY}, {PENALTY: ()}
        )
        y, new_state = layer.apply(params, state.get(BODY, {}), x, key=key, train=train)
        return y, filled({BODY: new_state, PENALTY: price(y) if train else jnp.zeros(())})

    def price(y: Any) -> Scalar:
        cost = penalty(jax.tree.map(lambda leaf: leaf.astype(trees.wide(leaf)), y))
        if jnp.shape(cost) != ():
            raise ShapeError(
                "activity_regularizer penalty", "one number", jnp.shape(cost), "sum over all of y"
            )
        return jnp.asarray(cost / jax.tree.leaves(y)[0].shape[0], jnp.result_type(float))

    return in_place_of(layer, Layer(init, apply), partial(activity_regularizer, penalty=penalty))
