"""A network looked at without training it: every example once, in batches of one size."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.data import to_float
from fnn.errors import ShapeError
from fnn.objective import cross_entropy
from fnn.optim import averaged, observe
from fnn.optim.transforms.plateau import observes
from fnn.train.task import NO_OPTIMIZER, Task, make_task
from fnn.types import (
    Data,
    Layer,
    Loss,
    Metric,
    Metrics,
    Params,
    PerExample,
    Prepare,
    Scalar,
    State,
    TrainState,
    Weighted,
)


def evaluate(
    network: Layer,
    params: Params,
    state: State,
    data: Data,
    *,
    batch_size: int = 256,
    prepare: Prepare = to_float,
    loss: Loss = cross_entropy,
    metrics: Metrics | None = None,
) -> dict[str, Scalar]:
    """The loss and each metric over all of the data (inputs, targets), every example counted once."""
    task = make_task(network, data[1], NO_OPTIMIZER, loss, metrics, prepare=prepare)
    return evaluated(task, params, state, data, checks.whole("evaluate batch_size", batch_size))


def predict(
    network: Layer, params: Params, state: State, inputs: Any, *, batch_size: int = 256, prepare: Prepare = to_float
) -> Any:
    """The network's outputs (n, ...) for the inputs (n, ...), without training, so without noise."""
    task = make_task(network, None, NO_OPTIMIZER, cross_entropy, {}, prepare=prepare)
    return _predicted(task, params, state, inputs, checks.whole("predict batch_size", batch_size))


def look(task: Task, outputs: Any, targets: Any) -> dict[str, Any]:
    """What the loss and the metrics see of each example; ShapeError for a function that gives not one an example."""
    examples = count_examples(targets)
    functions = {"loss": task.loss, **dict(task.metrics)}
    seen = {
        name: function.look(outputs, targets) if isinstance(function, Metric) else function(outputs, targets)
        for name, function in functions.items()
    }
    return {name: jax.tree.map(partial(_each, name, examples), own) for name, own in seen.items()}


def conclude(task: Task, seen: dict[str, Any]) -> dict[str, Scalar]:
    """The figures of all the examples seen."""
    functions = {"loss": task.loss, **dict(task.metrics)}
    return {name: _figure(function, seen[name]) for name, function in functions.items()}


def _figure(function: Loss | Metric, seen: Any) -> jax.Array:
    return function.finish(seen, jnp.ones(count_examples(seen))) if isinstance(function, Metric) else mean(seen)


def mean(seen: PerExample | Weighted) -> Scalar:
    """The mean over examples, where each counts as it should: the one place where it is taken."""
    if isinstance(seen, Weighted):
        total = seen.weights.sum()  # 0 where nothing counts: then so is the mean
        return (seen.weights * seen.values).sum() / jnp.maximum(total, jnp.finfo(total.dtype).tiny)
    return seen.reshape(seen.shape[0], -1).mean(1).mean()


def count_examples(data: Any) -> int:
    """The length of the first axis, at least 1."""
    examples = int(jax.tree.leaves(data)[0].shape[0])
    if examples == 0:
        raise ShapeError(
            "batch", "at least one example", "a batch axis with 0 examples", "check how the data was selected"
        )
    return examples


def take(data: Any, examples: jax.Array) -> Any:
    """The examples of these numbers, which are known to be there."""
    return jax.tree.map(lambda array: jnp.asarray(array).at[examples].get(mode="promise_in_bounds"), data)


def validate(task: Task, train_state: TrainState, valid: Data | None, batch_size: int) -> dict[str, Scalar]:
    """The figures on the validation data under the names that history gives them; none without such data.

    Where the optimizer keeps an average of the params, that is what is looked at.
    """
    if valid is None:
        return {}
    params = averaged(train_state.opt_state, train_state.params)
    figures = evaluated(task, params, train_state.state, valid, batch_size)
    return {f"valid_{name}": value for name, value in figures.items()}


def observed(task: Task, train_state: TrainState, figures: dict[str, Scalar]) -> TrainState:
    """The train state after an epoch with these figures, of which the optimizer and early stopping take note."""
    takes_note = task.early_stopping is not None or observes(train_state.opt_state)
    return _observed(task, train_state, figures) if figures and takes_note else train_state


@partial(jax.jit, static_argnums=0)
def _observed(task: Task, train_state: TrainState, figures: dict[str, Scalar]) -> TrainState:
    train_state = train_state._replace(opt_state=observe(train_state.opt_state, figures["valid_loss"]))
    return train_state if task.early_stopping is None else task.early_stopping.observe(train_state, figures)


@partial(jax.jit, static_argnums=(0, 4))
def evaluated(task: Task, params: Params, state: State, data: Data, batch_size: int) -> dict[str, Scalar]:
    """The loss and each metric over all of the data."""

    def seen(inputs: Any, targets: Any) -> dict[str, Any]:
        return look(task, task.network.apply(params, state, task.prepare(inputs), train=False)[0], targets)

    return conclude(task, _in_batches(seen, data, batch_size))


@partial(jax.jit, static_argnums=(0, 4))
def _predicted(task: Task, params: Params, state: State, inputs: Any, batch_size: int) -> Any:
    def outputs(inputs: Any) -> Any:
        return task.network.apply(params, state, task.prepare(inputs), train=False)[0]

    return _in_batches(outputs, (inputs,), batch_size)


def _in_batches(function: Callable[..., Any], data: tuple[Any, ...], batch_size: int) -> Any:
    """function(*data), computed batch by batch; the last batch is filled up with its last example, then cut."""
    examples = count_examples(data)
    size = min(batch_size, examples)
    batches = -(-examples // size)
    rows = jnp.minimum(jnp.arange(batches * size), examples - 1).reshape(batches, size)
    results = jax.lax.map(lambda row: function(*take(data, row)), rows)
    return jax.tree.map(lambda result: result.reshape(-1, *result.shape[2:])[:examples], results)


def _each(name: str, examples: int, values: jax.Array) -> PerExample:
    if values.ndim == 0 or values.shape[0] != examples:
        raise ShapeError(name, f"one value an example, ({examples},)", values.shape, "leave the mean to fnn")
    return values
