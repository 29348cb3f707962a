"""The steps of one epoch."""

from functools import partial
from typing import Any

import jax

from fnn.augment import BatchPolicy
from fnn.data import batches, to_float
from fnn.objective import cross_entropy
from fnn.train.evaluation import count_examples, take
from fnn.train.keys import ORDER
from fnn.train.steps import augmented, descend, steps_per_epoch
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
    Step,
    TrainState,
)

Measures = dict[str, jax.Array]


def epoch(
    train_state: TrainState,
    network: Layer,
    optimizer: Optimizer,
    data: Data,
    *,
    batch_size: int,
    micro_batch_size: int | None = None,
    augment: Augmentation | BatchPolicy | None = None,
    prepare: Prepare = to_float,
    loss: Loss = cross_entropy,
    metrics: Metrics | None = None,
    regularizer: Regularizer | None = None,
    on_nonfinite: str = "raise",
) -> tuple[TrainState, Measures]:
    """Every step of the epoch that the train state stands before: the next one, and each step's measures, (steps,)."""
    task = make_task(
        network, data[1], optimizer, loss, metrics, augment, prepare, on_nonfinite, regularizer, micro_batch_size
    )
    return whole_epoch(task, train_state, data, batch_size)


@partial(jax.jit, static_argnums=(0, 3))
def whole_epoch(task: Task, train_state: TrainState, data: Data, batch_size: int) -> tuple[TrainState, Measures]:
    """A scan over the steps of an epoch."""
    now = _epoch(train_state, data, batch_size)
    order = order_of(train_state.key, now, count_examples(data), batch_size)
    return jax.lax.scan(lambda carry, examples: learn(task, carry, data, now, examples), train_state, order)


@partial(jax.jit, static_argnums=(2, 3))
def order_of(key: RandomKey, epoch: Step | int, examples: int, batch_size: int) -> jax.Array:
    """The examples of each step of an epoch, (steps, batch), of a run of this key."""
    return batches(jax.random.fold_in(key, ORDER), epoch, examples=examples, batch_size=batch_size)


@partial(jax.jit, static_argnums=(0, 3))
def batch_at(task: Task, train_state: TrainState, data: Data, batch_size: int) -> tuple[Any, Any]:
    """The batch that the next step learns from, ready for the network."""
    now = _epoch(train_state, data, batch_size)
    order = order_of(train_state.key, now, count_examples(data), batch_size)
    return _batch(task, train_state, data, now, order[train_state.step - now * len(order)])


def _epoch(train_state: TrainState, data: Data, batch_size: int) -> Step:
    """Which epoch a run is in."""
    return train_state.step // steps_per_epoch(data, batch_size)


def learn(
    task: Task, train_state: TrainState, data: Data, now: Step, examples: jax.Array
) -> tuple[TrainState, dict[str, Scalar]]:
    """A step on these examples of the data, as they look in this epoch."""
    return descend(task, train_state, *_batch(task, train_state, data, now, examples))


def _batch(task: Task, train_state: TrainState, data: Data, now: Step, examples: jax.Array) -> tuple[Any, Any]:
    inputs, targets = take(data, examples)
    return augmented(task, train_state, now, inputs, targets, examples)
