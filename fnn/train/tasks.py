"""Training of several tasks whose gradients an aggregator combines.

The aggregator is a field of the loss, and this is known from the structure of the recipe. So a run
without one is the same program as before, and only here two things differ:

- The gradient is Σ_k c_k g_k. There is one forward pass, and a backward pass for each task, one
  after another: a batched backward pass takes longer on a CPU, and its memory is that of all.
  Penalties are no task: their gradient is added to the sum.
- The state of the optimizer is `TaskState`, which holds the memory of the aggregator. So all that
  is done with the state of an optimizer is done with the memory: a checkpoint saves it, early
  stopping restores that of the best epoch, and a step that is skipped leaves it as it is.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import optim
from fnn.errors import ConfigError
from fnn.objective.aggregators import combine, gramian_of, shared_paths
from fnn.optim.transform import Advance, make_wrapper, with_extra_args
from fnn.train.mesh_axes import vary_by
from fnn.train.recipe import Recipe
from fnn.types import Aggregator, Optimizer, OptState, Params, RandomKey, Scalar


class TaskState(NamedTuple):
    """The state of the optimizer of a recipe whose loss has an aggregator.

    Attributes:
        inner: The state of the optimizer.
        memory: The memory of the aggregator.
    """

    inner: OptState
    memory: Any


def optimizer_of(recipe: Recipe) -> Optimizer:
    """Return the optimizer of a recipe, whose state also has the memory of an aggregator.

    With an aggregator, its update takes the keyword `memory`, that of the next step.
    """
    assert recipe.optimizer is not None  # expect_recipe has checked this
    # An optimizer of another library may not accept the keywords that train_step passes.
    optimizer = with_extra_args("recipe optimizer", recipe.optimizer)
    aggregator = recipe.loss.aggregator
    if aggregator is None:
        return optimizer
    tasks = count_tasks(recipe)

    def init(params: Params) -> TaskState:
        # A pattern that matches nothing raises here, before a run.
        shared_paths(aggregator, params)
        return TaskState(optimizer.init(params), aggregator.init(tasks))

    def transform(
        advance: Advance,
        grads: Params,
        opt_state: TaskState,
        params: Params,
        *,
        memory: Any,
        **extra: Any,
    ) -> tuple[Params, TaskState]:
        # The memory of the next step is computed with the gradient, before the update.
        changed, inner = advance(optimizer, grads, opt_state.inner, params, **extra)
        return changed, TaskState(inner, memory)

    return make_wrapper(init, transform)


def count_tasks(recipe: Recipe) -> int:
    """Return the number of heads of the loss."""
    return len(recipe.loss.heads or ())


def aggregate_rows(
    aggregator: Aggregator,
    opt_state: TaskState,
    rows: list[Params],
    key: RandomKey,
) -> tuple[Params, jax.Array]:
    """Return the combined gradient and the Gramian.

    Args:
        aggregator: With `uses_gramian`.
        opt_state: Before the step.
        rows: The gradient of each task, times the loss scale.
        key: Of the step.
    """
    gramian = gramian_of(aggregator, rows)
    # The coefficients are those of true gradients.
    scale = optim.scale_loss(opt_state, jnp.ones((), gramian.dtype))
    # Twice, since the square of a loss scale can overflow.
    gramian = gramian / scale / scale
    coefficients = aggregator.coefficients(opt_state.memory, gramian, key)
    return combine(aggregator, coefficients, rows), gramian


def one_hot_rows(values: jax.Array) -> list[jax.Array]:
    """Return the vectors (tasks,) of which each picks one of the values (tasks,)."""
    # (tasks, tasks) -> tasks of (tasks,)
    rows = list(jnp.eye(len(values), dtype=values.dtype))
    # Within a shard_map, a cotangent varies over devices as its value does.
    return [vary_by(row, values) for row in rows]


def refuse_objective(params: Params) -> Scalar:
    """Raise ConfigError: no function of the parameters has the gradient of an aggregator."""
    raise ConfigError(
        "recipe loss",
        "a loss without an aggregator, where an optimizer evaluates it at other parameters",
        "a multi_task loss with one",
        "use an optimizer other than sam and lbfgs, or weights instead of the aggregator",
    )
