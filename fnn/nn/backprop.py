"""Backpropagation by modules: a forward pass with its backward pass and parameter gradients."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ShapeError
from fnn.nn.core.composite import expect_layer
from fnn.nn.transforms.tap import offsets, outputs, record, split, with_offsets
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
        outputs: The outputs of the inner layers at `paths`, by path, as from `tap`.
        output_gradients: dL_dy -> dL_doutputs, a dict like outputs.
    """

    y: Any
    state: State
    backward_pass: Callable[[Any], Any]
    parameter_gradients: Callable[[Any], Params]
    jacobian: Callable[[], Any]
    outputs: dict[str, Any]
    output_gradients: Callable[[Any], dict[str, Any]]


def forward_pass(
    layer: Layer | Callable[[Any], Any],
    params: Params,
    state: State,
    x: Any,
    /,
    *,
    key: RandomKey | None = None,
    train: bool = False,
    paths: Sequence[str] = (),
) -> Pass:
    """Apply a layer to x, and provide its backward pass, parameter gradients and Jacobian at x.

    Calling backward_pass(dL_dy) of each module in turn, from the last to the first, gives the
    gradients of jax.grad. The outputs of inner layers, and the gradients with respect to them, are
    those of visualizations such as Grad-CAM [Selvaraju et al. 2017, arXiv:1610.02391].

    Args:
        layer: A layer, or a function of x alone, such as a loss of the outputs.
        params: The params of the layer; {} for a function.
        state: The state of the layer; {} for a function.
        x: The batch of inputs.
        key: Random key for layers that draw in training.
        train: Whether the layer acts as in training.
        paths: Paths of inner layers, or patterns with `*`, as for `tap`.

    Raises:
        ConfigError: A path matches no layer.
        TreeMismatchError: In the derivatives: dL_dy has another structure, shape or dtype than y.
        ShapeError: In the Jacobian: y is not a single array.
    """

    module = layer
    if paths:
        network = expect_layer("forward_pass network", layer)
        module = record("forward_pass", network, tuple(paths))

    def apply(params: Params, x: Any, added: State) -> tuple[Any, State]:
        if isinstance(module, Layer):
            return module.apply(params, with_offsets(state, added), x, key=key, train=train)
        return module(x), state

    # Zeros that are added to the inner outputs: the gradient by them is that by the outputs.
    added: State = {}
    if paths:
        marked = jax.eval_shape(lambda: apply(params, x, {})[1])
        added = offsets(marked)
    # The state has no gradient: it is an auxiliary output.
    y, pull_back, marked = jax.vjp(apply, params, x, added, has_aux=True)
    new_state, taps = split(marked) if paths else (marked, {})

    def gradients(dL_dy: Any) -> tuple[Params, Any, State]:
        # jax.vjp would report a mismatch without its path.
        trees.expect_like("dL_dy", dL_dy, y)
        arrays = jax.tree.map(jnp.asarray, dL_dy)
        return pull_back(arrays)

    def backward_pass(dL_dy: Any) -> Any:
        _, dL_dx, _ = gradients(dL_dy)
        return dL_dx

    def parameter_gradients(dL_dy: Any) -> Params:
        dL_dparams, _, _ = gradients(dL_dy)
        return dL_dparams

    def output_gradients(dL_dy: Any) -> dict[str, Any]:
        _, _, dL_dadded = gradients(dL_dy)
        return outputs(split(dL_dadded)[1])

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

    return Pass(
        y, new_state, backward_pass, parameter_gradients, jacobian, outputs(taps), output_gradients
    )
