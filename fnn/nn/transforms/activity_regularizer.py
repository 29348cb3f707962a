"""Activity regularization: a penalty on the outputs of a layer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.composite import drop_empty, expect_layer, expect_names, wrap_layer
from fnn.types import PENALTY, Layer, Params, Scalar, State
from fnn.values import maker

BODY = "body"


@maker
def activity_regularizer(layer: Layer, penalty: Callable[[Any], Scalar]) -> Layer:
    """Add a penalty on the outputs y of a layer to the training loss: penalty(y) / batch.

    It is a mean over examples. The state is {"body": that of the layer, "penalty": the value}. The
    value is 0 before training and outside of it. `train` adds every state leaf named "penalty" to
    the loss.

    Args:
        layer: The layer. Its name and its params stay the same.
        penalty: A function of y that sums over all examples, such as objective.l1(1e-4). It is
            computed in float32 at least.

    Raises:
        ConfigError: `layer` is not a Layer, or `penalty` is not a function.
        ShapeError: In `apply`, the penalty is not a scalar.
        TreeMismatchError: In `apply`, the state has other entries.
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
        return params, drop_empty({BODY: state, PENALTY: jnp.zeros(())}), out_shape

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        expect_names("activity_regularizer", [BODY, PENALTY], state)
        # The old value is checked and not used, so that a wrong state raises an error.
        last_value = {name: state[name] for name in state if name == PENALTY}
        trees.expect_arrays("activity_regularizer", last_value, {PENALTY: ()})
        y, new_state = layer.apply(params, state.get(BODY, {}), x, key=key, train=train)
        # 0 in evaluation, where no loss is minimized.
        value = mean_penalty(y) if train else jnp.zeros(())
        return y, drop_empty({BODY: new_state, PENALTY: value})

    def mean_penalty(y: Any) -> Scalar:
        # A sum over many outputs in bfloat16 would lose its small terms.
        wide_y = jax.tree.map(lambda leaf: leaf.astype(trees.wide(leaf)), y)
        total = penalty(wide_y)
        if jnp.shape(total) != ():
            raise ShapeError(
                "activity_regularizer penalty",
                "one number",
                jnp.shape(total),
                "sum over all of y",
            )
        batch = jax.tree.leaves(y)[0].shape[0]
        # The dtype of the initial value, so that the state keeps its dtype from step to step.
        return jnp.asarray(total / batch, jnp.result_type(float))

    regularized = Layer(init, apply)
    return wrap_layer(layer, regularized, partial(activity_regularizer, penalty=penalty))
