"""One step of training."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, optim, trees
from fnn.augment import BatchPolicy, batched
from fnn.data import to_float
from fnn.errors import ConfigError
from fnn.objective import cross_entropy
from fnn.optim.wrapping import extended, rate
from fnn.train.batching import own_batch
from fnn.train.evaluation import count_examples
from fnn.train.keys import AUGMENT, INIT, own_key
from fnn.train.minimizing import gradients, minimized, objective
from fnn.train.task import Task, make_task
from fnn.types import (
    Augmentation,
    Data,
    Layer,
    Loss,
    Metrics,
    Optimizer,
    Prepare,
    RandomKey,
    Regularizer,
    Scalar,
    Shape,
    Step,
    TrainState,
)


def start(key: RandomKey, network: Layer, optimizer: Optimizer, shape: Shape) -> TrainState:
    """The state of a run before its first step; shape is one example's, without the batch axis."""
    params, state, _ = network.init(jax.random.fold_in(checks.key("key", key), INIT), shape)
    return TrainState(params, state, optimizer.init(params), jnp.zeros((), jnp.int32), key)


@partial(jax.jit, static_argnums=0)
def start_on(task: Task, key: RandomKey, data: Data) -> TrainState:
    """The state before the first step of a run on this data."""
    train_state = start(key, task.network, task.optimizer, jax.tree.map(lambda array: array.shape[1:], data[0]))
    return train_state if task.early_stopping is None else task.early_stopping.begin(train_state)


def step(
    train_state: TrainState,
    network: Layer,
    optimizer: Optimizer,
    batch: Data,
    *,
    micro_batch_size: int | None = None,
    augment: Augmentation | BatchPolicy | None = None,
    prepare: Prepare = to_float,
    loss: Loss = cross_entropy,
    metrics: Metrics | None = None,
    regularizer: Regularizer | None = None,
    on_nonfinite: str = "raise",
) -> tuple[TrainState, dict[str, Scalar]]:
    """One step of descent on a batch (inputs, targets), of any loader: the next train state, and what was measured.

    Minimized are the loss and, where there is any, the penalty: regularizer(params), and each leaf of the network's
    state that is named penalty. Measured are loss, penalty, the metrics, rate (the optimizer's, NaN if it tells none),
    and finite: whether loss, gradients and state all are. With on_nonfinite="skip" a step that is not finite changes
    nothing but the step count. micro_batch_size is as in `train.run`. ShapeError for an empty batch, or for a loss that
    does not give one value an example.
    """
    inputs, targets = own_batch("batch", batch)
    task = make_task(
        network, targets, optimizer, loss, metrics, augment, prepare, on_nonfinite, regularizer, micro_batch_size
    )
    return stepped(task, train_state, inputs, targets)


def steps(data: Data, *, epochs: int, batch_size: int) -> int:
    """How many steps a run of so many epochs takes; the examples that fill no batch sit an epoch out.

    ConfigError where the data does not fill one batch.
    """
    return checks.whole("epochs", epochs, 0) * steps_per_epoch(data, batch_size)


def steps_per_epoch(data: Data, batch_size: int) -> int:
    """How many whole batches the data fills, at least one."""
    examples = count_examples(data)
    if checks.whole("batch_size", batch_size) > examples:
        raise ConfigError("batch_size", f"at most the {examples} examples", batch_size, "use smaller batches")
    return examples // batch_size


def augmented(
    task: Task, train_state: TrainState, moment: Step, inputs: Any, targets: Any, examples: jax.Array | None = None
) -> tuple[Any, Any]:
    """The batch ready for the network: augmented, each input by its own key of that moment, then prepared.

    The moment is the epoch where the numbers of the examples are known, else the step.
    """
    if task.augment is not None:
        key, epoch = own_key(train_state, AUGMENT, moment), None if examples is None else moment
        inputs, targets = batched(task.augment)(key, inputs, targets, examples, epoch)
    return task.prepare(inputs), targets


def descend(task: Task, train_state: TrainState, inputs: Any, targets: Any) -> tuple[TrainState, dict[str, Scalar]]:
    """One step on inputs that are ready for the network."""
    params, state, opt_state = train_state[:3]
    measured, grads, new_state = gradients(task, train_state, inputs, targets)
    value, value_fn = sum(minimized(measured).values()), objective(task, train_state, inputs, targets)
    told = {"value": value, "grad": grads, "value_fn": value_fn}
    new_params, new_opt_state = optim.step(extended("optimizer", task.optimizer), grads, opt_state, params, **told)
    new = new_params, new_state, new_opt_state
    finite = trees.all_finite((minimized(measured), grads, new_state))
    if task.on_nonfinite == "skip":
        new = trees.select(finite, new, (params, state, optim.backed_off(opt_state)))
    measured |= {"rate": jnp.asarray(rate(new_opt_state), measured["loss"].dtype), "finite": finite}
    return train_state._replace(params=new[0], state=new[1], opt_state=new[2], step=train_state.step + 1), measured


@partial(jax.jit, static_argnums=0)
def stepped(task: Task, train_state: TrainState, inputs: Any, targets: Any) -> tuple[TrainState, dict[str, Scalar]]:
    """One step on a batch as it came: each input is augmented by its own key of this step."""
    return descend(task, train_state, *augmented(task, train_state, train_state.step, inputs, targets))
