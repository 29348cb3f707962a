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
from fnn.train.exchange import apply_network, constrain_like_params
from fnn.train.figures import LOSS
from fnn.train.inputs import AGGREGATION, NOISE, derive_key
from fnn.train.measure import (
    count_examples,
    head_means,
    mean,
    measure_examples,
    reduce_examples,
)
from fnn.train.mesh_axes import vary_like
from fnn.train.recipe import Recipe, coupled_examples
from fnn.train.tasks import aggregate_rows, one_hot_rows, refuse_objective
from fnn.types import (
    PENALTY,
    Aggregator,
    HeadLosses,
    Params,
    PerExample,
    RandomKey,
    Scalar,
    State,
    TrainState,
    Weighted,
)

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


class Gradients(NamedTuple):
    """The result of differentiating the objective of a step.

    Attributes:
        figures: Loss, metrics and, if there is one, penalty, by name.
        grads: By the parameters, times the optimizer's loss scale, if it has one; the figures are
            not.
        state: Next state of the network.
        of_tasks: Further keywords of the optimizer's update: with an aggregator, its `memory`.
    """

    figures: dict[str, Scalar]
    grads: Params
    state: State
    of_tasks: dict[str, Any]


# (state, key, inputs, targets, totals) -> (value to average over micro-batches, forward result)
MicroBatchFunction = Callable[
    [State, RandomKey, Any, Any, jax.Array | None], tuple[Any, ForwardResult]
]


def gradients(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
) -> Gradients:
    """Compute the figures of a batch, the gradient by the parameters and the next network state.

    Args:
        recipe: From `train.recipe`.
        train_state: Before the step.
        inputs: Arrays (batch, ...), augmented and prepared.
        targets: Arrays (batch, ...).
    """
    aggregator = recipe.loss.aggregator
    is_by_task = aggregator is not None and aggregator.uses_gramian
    differentiate = _differentiate_tasks if is_by_task else _differentiate
    grads, result = _average_micro_batches(
        partial(differentiate, recipe, train_state), recipe, train_state, inputs, targets
    )
    of_tasks = {}
    if aggregator is not None:
        grads, memory = _aggregate(aggregator, train_state, grads, result.per_example[LOSS])
        of_tasks = {"memory": memory}
    grads = constrain_like_params(grads, train_state.params)
    penalty = {} if result.penalty is None else {PENALTY: result.penalty}
    figures = reduce_examples(recipe, result.per_example) | penalty
    return Gradients(figures, grads, result.state, of_tasks)


def _differentiate(
    recipe: Recipe,
    train_state: TrainState,
    state: State,
    key: RandomKey,
    inputs: Any,
    targets: Any,
    totals: jax.Array | None,
) -> tuple[Params, ForwardResult]:
    """Return the gradient of mean loss + penalty."""

    def scaled_objective(params: Params) -> tuple[Scalar, ForwardResult]:
        # As in other libraries, a frozen parameter has no gradient, so it can end no run.
        params = stop_frozen_gradients(train_state.opt_state, params)
        value, result = _objective(
            recipe, params, state, key, inputs, targets, totals, coefficients
        )
        return optim.scale_loss(train_state.opt_state, value), result

    coefficients = None
    if recipe.loss.aggregator is not None:
        # Without a Gramian they follow from the memory, so they are known before the gradient.
        memory = train_state.opt_state.memory
        coefficients = recipe.loss.aggregator.coefficients(memory, None, None)
    # The value is scaled, so it is not reported: `result` has the loss as it is.
    (_, result), grads = jax.value_and_grad(scaled_objective, has_aux=True)(train_state.params)
    return grads, result


def _differentiate_tasks(
    recipe: Recipe,
    train_state: TrainState,
    state: State,
    key: RandomKey,
    inputs: Any,
    targets: Any,
    totals: jax.Array | None,
) -> tuple[tuple[list[Params], list[Params]], ForwardResult]:
    """Return the gradient of each task, and those of the penalties, which are no tasks."""
    scale = partial(optim.scale_loss, train_state.opt_state)

    def terms(params: Params) -> tuple[tuple[jax.Array, list[Scalar]], ForwardResult]:
        params = stop_frozen_gradients(train_state.opt_state, params)
        result = _forward(recipe, params, state, key, inputs, targets)
        in_state = map(scale, _state_penalties(recipe, result.state))
        return (scale(head_means(result.per_example[LOSS], totals)), list(in_state)), result

    (values, in_state), pullback, result = jax.vjp(terms, train_state.params, has_aux=True)
    zeros = jax.tree.map(jnp.zeros_like, in_state)
    # One backward pass after another.
    rows = [pullback((row, vary_like(zeros, in_state)))[0] for row in one_hot_rows(values)]
    penalties = []
    if in_state:
        no_task = vary_like(jnp.zeros_like(values), values)
        ones = vary_like(jax.tree.map(jnp.ones_like, in_state), in_state)
        penalties.append(pullback((no_task, ones))[0])
    if recipe.regularizer is not None:
        regularizer = recipe.regularizer

        def scaled_penalty(params: Params) -> Scalar:
            return scale(regularizer(stop_frozen_gradients(train_state.opt_state, params)))

        # It needs no backward pass through the network.
        penalties.append(jax.grad(scaled_penalty)(train_state.params))
    return (rows, penalties), result


def _aggregate(
    aggregator: Aggregator,
    train_state: TrainState,
    grads: Any,
    values: HeadLosses,
) -> tuple[Params, Any]:
    """Return the gradient of all tasks and penalties, and the next memory of the aggregator."""
    opt_state, gramian = train_state.opt_state, None
    if aggregator.uses_gramian:
        rows, penalties = grads
        key = derive_key(train_state, AGGREGATION, train_state.step)
        grads, gramian = aggregate_rows(aggregator, opt_state, rows, key)
        for penalty in penalties:
            grads = jax.tree.map(jnp.add, grads, penalty)
    return grads, aggregator.update(opt_state.memory, gramian, head_means(values))


def make_objective(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
) -> Callable[[Params], Scalar]:
    """Return the objective of this step as a function of the parameters.

    Optimizers such as sam and lbfgs evaluate it at other parameters. The noise is that of the step.
    """
    if recipe.loss.aggregator is not None:
        return refuse_objective

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
    totals: jax.Array | None = None,
    coefficients: jax.Array | None = None,
) -> tuple[Scalar, ForwardResult]:
    """Compute mean loss + penalty of one forward pass.

    Args:
        recipe: From `train.recipe`.
        params: Parameters.
        state: State of the network.
        key: That of dropout and other noise.
        inputs: Arrays (batch, ...), augmented and prepared.
        targets: Arrays (batch, ...).
        totals: Of a micro-batch, the sums of the weights of each head; see `head_means`.
        coefficients: Factors of the means of the heads (heads,); None for their sum.
    """
    result = _forward(recipe, params, state, key, inputs, targets)
    values = result.per_example[LOSS]
    if totals is None and coefficients is None:
        value = mean(values)
    else:
        means = head_means(values, totals)
        value = means.sum() if coefficients is None else (coefficients.astype(means.dtype) @ means)
    return value + (0 if result.penalty is None else result.penalty), result


def _forward(
    recipe: Recipe,
    params: Params,
    state: State,
    key: RandomKey,
    inputs: Any,
    targets: Any,
) -> ForwardResult:
    before = state
    outputs, state = apply_network(recipe.network, params, state, inputs, key=key, train=True)
    # The error of a loop over steps would not name the layer.
    trees.expect_like("state of the network", state, before)
    per_example = measure_examples(recipe, outputs, targets)
    penalties = [] if recipe.regularizer is None else [recipe.regularizer(params)]
    penalties += _state_penalties(recipe, state)
    penalty = jnp.stack(penalties).sum() if penalties else None
    return ForwardResult(per_example, penalty, state)


def _state_penalties(recipe: Recipe, state: State) -> list[Scalar]:
    # Layers such as activity_regularizer leave their penalty in the state, under this name.
    leaves = trees.named_leaves(state)
    found = {path: leaf for path, leaf in leaves.items() if path.split("/")[-1] == PENALTY}
    if found:
        # The state of a part that a user calls penalty is no penalty.
        for path in layer_paths(recipe.network):
            found.pop(path, None)
    return [leaf.sum() for leaf in found.values()]


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
        return function(train_state.state, key, inputs, targets, None)
    totals = None

    def compute(state: State, micro_batch: Any) -> tuple[Any, ForwardResult]:
        index, inputs, targets = micro_batch
        own_key = jax.random.fold_in(key, index)
        value, result = function(state, own_key, inputs, targets, totals)
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
    program, (shapes, one) = jax.make_jaxpr(compute, return_shape=True)(train_state.state, first)
    # Plain functions are traced, since nothing else is known about them.
    if recipe.couples_examples is None and has_coupled_values(program):
        raise coupled_examples(recipe)
    if isinstance(one.per_example[LOSS], HeadLosses):
        # `compute` uses them from here on.
        totals = _head_totals(recipe, train_state, key, micro_batches)
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


def _head_totals(
    recipe: Recipe,
    train_state: TrainState,
    key: RandomKey,
    micro_batches: Any,
) -> jax.Array:
    """Return the sums of the weights of each head (heads,), in the mean over micro-batches.

    Each micro-batch divides by them, so that the mean over micro-batches is that over the batch.
    """

    def weights(micro_batch: Any) -> jax.Array:
        index, inputs, targets = micro_batch
        own_key = jax.random.fold_in(key, index)
        result = _forward(recipe, train_state.params, train_state.state, own_key, inputs, targets)
        return result.per_example[LOSS].weights.sum(0)

    # Weights depend on the targets alone as a rule. Then the compiler leaves the network out.
    return jax.lax.map(weights, micro_batches).mean(0)


def count_micro_batches(examples: int, max_size: int | None) -> int:
    """Return the smallest number of equal micro-batches with at most max_size examples each."""
    if max_size is None:
        return 1
    count = 1
    while examples % count or examples > max_size * count:
        count += 1
    return count


def first_micro_batch(count: int, arrays: Any) -> Any:
    """Return the first of `count` equal micro-batches of arrays (batch, ...)."""

    def first(array: jax.Array) -> jax.Array:
        return _split_micro_batches(count, array)[0]

    return jax.tree.map(first, arrays)


def _split_micro_batches(count: int, array: jax.Array) -> jax.Array:
    """Split (batch, ...) into (count, batch / count, ...), taking every count-th example.

    If the batch is sharded over devices, each device then holds a share of every micro-batch.
    Contiguous micro-batches would have to be sent between devices.
    """
    return array.reshape(-1, count, *array.shape[1:]).swapaxes(0, 1)


def _merge_micro_batches(array: jax.Array) -> jax.Array:
    """Merge (count, batch / count, ...) into (batch, ...), in the order before the split."""
    return array.swapaxes(0, 1).reshape(-1, *array.shape[2:])


def _micro_batch_weight(losses: PerExample | Weighted | HeadLosses) -> Scalar:
    """Return the weight of a micro-batch in the mean over the batch."""
    if isinstance(losses, Weighted):
        return losses.weights.astype(trees.wide(losses.weights)).sum() + SMALLEST_WEIGHT
    # Without weights all micro-batches count the same, for they have equal sizes. Those of heads
    # are divided by the totals of the batch.
    values = losses.values if isinstance(losses, HeadLosses) else losses
    return jnp.ones((), trees.wide(values))
