"""Backpropagation by modules: each passes forward, then turns dL/dy into dL/dx and the gradients of its own params."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ShapeError
from fnn.types import Layer, Params, RandomKey, State


class Pass(NamedTuple):
    """A module's output at one x, and how derivatives go through it there.

    y, state:            what apply gave
    backward_pass:       (dL_dy) -> dL_dx, a tree like x; zeros without a dtype, as in jax.vjp, for integers in it
    parameter_gradients: (dL_dy) -> dL_dparams, a tree like params
    jacobian:            () -> dy_dx, for each array of x an array (*y.shape, *x.shape)
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
    """The output y of a layer at x, with its backward pass, parameter gradients and Jacobian there.

    The layer may also be a function of x alone, as a loss is of the outputs, with params {} and state {}. Chained by
    hand, backward_pass(dL_dy) of each module in turn, they give jax.grad's answer. TreeMismatchError for a dL_dy unlike
    y; ShapeError for the Jacobian of what is no array.
    """

    def apply(params: Params, x: Any) -> tuple[Any, State]:
        if isinstance(layer, Layer):
            return layer.apply(params, state, x, key=key, train=train)
        return layer(x), state

    y, pull, new_state = jax.vjp(apply, params, x, has_aux=True)

    def pulled(dL_dy: Any) -> tuple[Params, Any]:
        trees.expect_like("dL_dy", dL_dy, y)
        return pull(jax.tree.map(jnp.asarray, dL_dy))

    def jacobian() -> Any:
        if not isinstance(y, jax.Array):
            raise ShapeError(
                "jacobian y",
                "one array",
                jax.tree.structure(y),
                "take a function that gives one of them",
            )
        rows = jnp.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
        return jax.tree.map(
            lambda dx: dx.reshape(*y.shape, *dx.shape[1:]), jax.vmap(lambda row: pull(row)[1])(rows)
        )

    return Pass(
        y, new_state, lambda dL_dy: pulled(dL_dy)[1], lambda dL_dy: pulled(dL_dy)[0], jacobian
    )
