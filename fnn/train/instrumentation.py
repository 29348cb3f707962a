"""The figures of a recipe's instruments, within the compiled step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from fnn import optim, trees
from fnn.train.gradients import count_micro_batches, first_micro_batch
from fnn.train.inputs import NOISE, derive_key, example_shapes
from fnn.train.measure import count_examples
from fnn.train.mesh_axes import vary_by
from fnn.train.recipe import Recipe
from fnn.types import InstrumentedStep, OptState, Params, StepRecord, TrainState

Arrays = dict[str, jax.Array]


def instrument_figures(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
    record: StepRecord,
) -> Arrays:
    """Return the arrays of the instruments if the step is one that they measure, else NaN.

    Args:
        recipe: From `train.recipe`, with instruments.
        train_state: Before the step.
        inputs: Arrays (batch, ...), augmented and prepared.
        targets: Arrays (batch, ...).
        record: The step.
    """
    instruments = recipe.instruments
    assert instruments is not None
    key = derive_key(train_state, NOISE, train_state.step)
    count = count_micro_batches(count_examples(targets), recipe.micro_batch_size)
    if count > 1:
        inputs = first_micro_batch(count, inputs)
        key = jax.random.fold_in(key, 0)
    # Statistics are constants to a derivative of the run, which then skips them.
    network, record, inputs = _constant((recipe.network, record, inputs))

    def measure() -> Arrays:
        unscaled = record._replace(grads=unscaled_grads(record.opt_state, record.grads))
        step = InstrumentedStep(network, unscaled, inputs, key)
        return _constant(instruments.measure(step))

    # One array, since the loop below would handle each of several in every step.
    shapes = jax.eval_shape(measure)
    _, restore = ravel_pytree(
        jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), shapes)
    )

    def measure_flat() -> jax.Array:
        flat, _ = ravel_pytree(measure())
        return vary_by(flat, (record, inputs))

    # A while_loop of at most one turn. A cond would compute both of its branches in every step
    # where the condition differs between the lanes of a vmap, as with early stopping: lanes end at
    # different steps. The loop turns only in steps that at least one lane measures.
    def turn(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        again = carry[0] & False
        return again, measure_flat()

    size = jax.eval_shape(measure_flat)
    blank = vary_by(jnp.full(size.shape, jnp.nan, size.dtype), (record, inputs))
    is_measured = train_state.step % instruments.every == 0
    _, flat = jax.lax.while_loop(lambda carry: carry[0], turn, (is_measured, blank))
    return restore(flat)


def instrument_columns(
    recipe: Recipe,
    params: Params,
    inputs: Any,
) -> dict[str, tuple[str, ...]]:
    """Return the names of the columns of each array of the instruments; none without instruments.

    Args:
        recipe: From `train.recipe`.
        params: Parameters of the network.
        inputs: Arrays (n, ...), as they are stored.
    """
    if recipe.instruments is None:
        return {}
    return recipe.instruments.columns(recipe.network, params, example_shapes(recipe, inputs))


def unscaled_grads(opt_state: OptState, grads: Params) -> Params:
    """Return gradients without the factor of a loss scale, in float32 at least.

    Args:
        opt_state: State of the optimizer before the step.
        grads: The gradients of the step.
    """
    scale = optim.scale_loss(opt_state, jnp.ones(()))

    def unscale(grad: jax.Array) -> jax.Array:
        # A gradient may be too small for float16 without the factor: that is why there is one.
        wide_grad = grad.astype(trees.wide(grad))
        return wide_grad / scale.astype(wide_grad.dtype)

    return jax.tree.map(unscale, grads)


def _constant(tree: Any) -> Any:
    """Return the tree with its arrays of floats as constants to derivatives."""

    def constant(leaf: Any) -> Any:
        # A made network has Python numbers as leaves, and a bare Layer is a leaf.
        is_float = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jax.lax.stop_gradient(leaf) if is_float else leaf

    return jax.tree.map(constant, tree)
