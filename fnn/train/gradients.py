"""The objective of a step and its gradient, optionally accumulated over micro-batches."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import optim, trees
from fnn.nn.core.composite import layer_paths
from fnn.objective.loss import has_coupled_values
from fnn.optim.transform import stop_frozen_gradients
from fnn.train.figures import LOSS
from fnn.train.inputs import NOISE, derive_key
from fnn.train.measure import count_examples, mean, measure_examples, reduce_examples
from fnn.train.recipe import Recipe, coupled_examples
from fnn.types import PENALTY, Params, PerExample, RandomKey, Scalar, State, TrainState, Weighted

# Added to the weight of each micro-batch. If all weights are 0, the sum of the weights is not 0
# then, and penalties, which do not depend on the weights, are averaged correctly.
SMALLEST_WEIGHT = 1e-19


class ForwardResult(NamedTuple):
    """The result of a forward pass in training.

    Attributes:
        per_example: Values of the loss and of each metric for each example, by name.
        penalty: Sum of all penalties, a scalar; None if there are none.
        state: Next state of the network.
    """

    per_example: dict[str, Any]
    penalty: Scalar | None
    state: State


# (state, key, inputs, targets) -> (value to average over micro-batches, forward result)
MicroBatchFunction = Callable[[State, RandomKey, Any, Any], tuple[Any, ForwardResult]]


def gradients(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
) -> tuple[dict[str, Scalar], Params, State]:
    """Compute the figures of a batch, the gradient by the parameters and the next network state.

    Args:
        recipe: From `train.recipe`.
        train_state: Before the step.
        inputs: Arrays (batch, ...), augmented and prepared.
        targets: Arrays (batch, ...).

    Returns:
        (figures by name, grads, state): loss, metrics and, if there is one, penalty. The gradient
        is multiplied by the optimizer's loss scale, if it has one; the figures are not.
    """

    def differentiate(
        state: State,
        key: RandomKey,
        inputs: Any,
        targets: Any,
    ) -> tuple[Params, ForwardResult]:
        def scaled_objective(params: Params) -> tuple[Scalar, ForwardResult]:
            # As in other libraries, a frozen parameter has no gradient, so it can end no run.
            params = stop_frozen_gradients(train_state.opt_state, params)
            value, result = _objective(recipe, params, state, key, inputs, targets)
            return optim.scale_loss(train_state.opt_state, value), result

        # The value is scaled, so it is not reported: `result` has the loss as it is.
        (_, result), grads = jax.value_and_grad(scaled_objective, has_aux=True)(train_state.params)
        return grads, result

    grads, result = _average_micro_batches(differentiate, recipe, train_state, inputs, targets)
    penalty = {} if result.penalty is None else {PENALTY: result.penalty}
    figures = reduce_examples(recipe, result.per_example) | penalty
    return figures, grads, result.state


def make_objective(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
) -> Callable[[Params], Scalar]:
    """Return the objective of this step as a function of the parameters.

    Optimizers such as sam and lbfgs evaluate it at other parameters. The noise is that of the step.
    """

    def value_of(params: Params) -> Scalar:
        objective = partial(_objective, recipe, params)
        value, _ = _average_micro_batches(objective, recipe, train_state, inputs, targets)
        return value

    return value_of


def objective_terms(figures: dict[str, Scalar]) -> dict[str, Scalar]:
    """Select the terms whose sum is minimized: the loss and, if there is one, the penalty."""
    return {name: figures[name] for name in (LOSS, PENALTY) if name in figures}


def _objective(
    recipe: Recipe,
    params: Params,
    state: State,
    key: RandomKey,
    inputs: Any,
    targets: Any,
) -> tuple[Scalar, ForwardResult]:
    """Compute mean loss + penalty of one forward pass."""
    # The key is that of dropout and other noise.
    before = state
    outputs, state = recipe.network.apply(params, state, inputs, key=key, train=True)
    # The error of a loop over steps would not name the layer.
    trees.expect_like("state of the network", state, before)
    per_example = measure_examples(recipe, outputs, targets)
    penalties = _penalties(recipe, params, state)
    penalty = jnp.stack(penalties).sum() if penalties else None
    value = mean(per_example[LOSS]) + (0 if penalty is None else penalty)
    return value, ForwardResult(per_example, penalty, state)


def _penalties(recipe: Recipe, params: Params, state: State) -> list[Scalar]:
    penalties = []
    if recipe.regularizer is not None:
        penalties.append(recipe.regularizer(params))
    # Layers such as activity_regularizer leave their penalty in the state, under this name.
    leaves = trees.named_leaves(state)
    found = {path: leaf for path, leaf in leaves.items() if path.split("/")[-1] == PENALTY}
    if found:
        # The state of a part that a user calls penalty is no penalty.
        for path in layer_paths(recipe.network):
            found.pop(path, None)
    penalties.extend(leaf.sum() for leaf in found.values())
    return penalties


def _average_micro_batches(
    function: MicroBatchFunction,
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
) -> tuple[Any, ForwardResult]:
    """Average a function over equal micro-batches of a batch, weighted as their targets are.

    The network's state passes from one micro-batch to the next. Differentiating this function
    recomputes each micro-batch, so memory holds the intermediate values of only one.
    """
    # One key per step; each micro-batch folds in its index.
    key = derive_key(train_state, NOISE, train_state.step)
    count = count_micro_batches(count_examples(targets), recipe.micro_batch_size)
    if count == 1:
        return function(train_state.state, key, inputs, targets)

    def compute(state: State, micro_batch: Any) -> tuple[Any, ForwardResult]:
        index, inputs, targets = micro_batch
        value, result = function(state, jax.random.fold_in(key, index), inputs, targets)
        weight = _micro_batch_weight(result.per_example[LOSS])
        return (weight, (value, result.penalty)), result

    def accumulate(carry: Any, micro_batch: Any) -> tuple[Any, dict[str, Any]]:
        state, (total_weight, sums) = carry
        (weight, values), result = compute(state, micro_batch)
        sums = jax.tree.map(
            lambda sum, value: sum + weight.astype(sum.dtype) * value.astype(sum.dtype),
            sums,
            values,
        )
        return (result.state, (total_weight + weight, sums)), result.per_example

    split = partial(_split_micro_batches, count)
    # Each array: (count, examples of a micro-batch, ...)
    micro_batches = jnp.arange(count), *jax.tree.map(split, (inputs, targets))
    first = jax.tree.map(lambda array: array[0], micro_batches)
    # (weight, (value, penalty)) of one micro-batch.
    program, (shapes, _) = jax.make_jaxpr(compute, return_shape=True)(train_state.state, first)
    # Plain functions are traced, since nothing else is known about them.
    if recipe.couples_examples is None and has_coupled_values(program):
        raise coupled_examples(recipe)
    # Sums are accumulated in float32 at least.
    zeros = jax.tree.map(lambda shape: jnp.zeros_like(shape, trees.wide(shape)), shapes)
    (state, (total_weight, sums)), per_example = jax.lax.scan(
        jax.checkpoint(accumulate, prevent_cse=False), (train_state.state, zeros), micro_batches
    )
    # Back to the dtypes of the values.
    value, penalty = jax.tree.map(
        lambda shape, sum: (sum / total_weight.astype(sum.dtype)).astype(shape.dtype),
        shapes[1],
        sums,
    )
    per_example = jax.tree.map(_merge_micro_batches, per_example)
    return value, ForwardResult(per_example, penalty, state)


def count_micro_batches(examples: int, max_size: int | None) -> int:
    """Return the smallest number of equal micro-batches with at most max_size examples each."""
    if max_size is None:
        return 1
    count = 1
    while examples % count or examples > max_size * count:
        count += 1
    return count


def _split_micro_batches(count: int, array: jax.Array) -> jax.Array:
    """Split (batch, ...) into (count, batch / count, ...), taking every count-th example.

    If the batch is sharded over devices, each device then holds a share of every micro-batch.
    Contiguous micro-batches would have to be sent between devices.
    """
    return array.reshape(-1, count, *array.shape[1:]).swapaxes(0, 1)


def _merge_micro_batches(array: jax.Array) -> jax.Array:
    """Merge (count, batch / count, ...) into (batch, ...), in the order before the split."""
    return array.swapaxes(0, 1).reshape(-1, *array.shape[2:])


def _micro_batch_weight(losses: PerExample | Weighted) -> Scalar:
    """Return the weight of a micro-batch in the mean over the batch."""
    if isinstance(losses, Weighted):
        return losses.weights.astype(trees.wide(losses.weights)).sum() + SMALLEST_WEIGHT
    # Without weights all micro-batches count the same, for they have equal sizes.
    return jnp.ones((), trees.wide(losses))
