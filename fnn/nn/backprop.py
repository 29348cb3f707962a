"""Backpropagation by modules: a forward pass with its backward pass and parameter gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ShapeError
from fnn.types import Layer, Params, RandomKey, State


class Pass(NamedTuple):
    """The output of a module at one x, and its derivatives at that x.

    Attributes:
        y: The output.
        state: The new state.
        backward_pass: dL_dy -> dL_dx, a tree like x; for integers in x, zeros of dtype float0, as
            in jax.vjp.
        parameter_gradients: dL_dy -> dL_dparams, a tree like params.
        jacobian: () -> dy_dx: for each array of x an array (*y.shape, *x.shape).
    """

    y: Any
    state: State
    backward_pass: Callable[[Any], Any]
    parameter_gradients: Callable[[Any], Params]
    jacobian: Callable[[], Any]


def forward_pass(
    layer: Layer | Callable[[Any], Any],
    params: Params,
    state: State,
    x: Any,
    /,
    *,
    key: RandomKey | None = None,
    train: bool = False,
) -> Pass:
    """Apply a layer to x, and provide its backward pass, parameter gradients and Jacobian at x.

    Calling backward_pass(dL_dy) of each module in turn, from the last to the first, gives the
    gradients of jax.grad.

    Args:
        layer: A layer, or a function of x alone, such as a loss of the outputs.
        params: The params of the layer; {} for a function.
        state: The state of the layer; {} for a function.
        x: The batch of inputs.
        key: Random key for layers that draw in training.
        train: Whether the layer acts as in training.

    Raises:
        TreeMismatchError: In the derivatives: dL_dy has another structure, shape or dtype than y.
        ShapeError: In the Jacobian: y is not a single array.
    """

    def apply(params: Params, x: Any) -> tuple[Any, State]:
        if isinstance(layer, Layer):
            return layer.apply(params, state, x, key=key, train=train)
        return layer(x), state

    # The state has no gradient: it is an auxiliary output.
    y, pull_back, new_state = jax.vjp(apply, params, x, has_aux=True)

    def gradients(dL_dy: Any) -> tuple[Params, Any]:
        # jax.vjp would report a mismatch without its path.
        trees.expect_like("dL_dy", dL_dy, y)
        arrays = jax.tree.map(jnp.asarray, dL_dy)
        return pull_back(arrays)

    def backward_pass(dL_dy: Any) -> Any:
        _, dL_dx = gradients(dL_dy)
        return dL_dx

    def parameter_gradients(dL_dy: Any) -> Params:
        dL_dparams, _ = gradients(dL_dy)
        return dL_dparams

    def jacobian() -> Any:
        if not isinstance(y, jax.Array):
            raise ShapeError(
                "jacobian y",
                "one array",
                jax.tree.structure(y),
                "take a function that gives one of them",
            )
        # One backward pass for each number of y, all at once: row i is the gradient of y_i.
        basis = jnp.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
        rows = jax.vmap(lambda dL_dy: pull_back(dL_dy)[1])(basis)
        # (y.size, *x.shape) -> (*y.shape, *x.shape)
        return jax.tree.map(lambda dx: dx.reshape(*y.shape, *dx.shape[1:]), rows)

    return Pass(y, new_state, backward_pass, parameter_gradients, jacobian)
