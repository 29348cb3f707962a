"""The steps of one epoch."""

from functools import partial
from typing import Any

import jax

from fnn.data import batches
from fnn.train.inputs import ORDER, take
from fnn.train.measure import count_examples
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import augmented, descend, steps_per_epoch
from fnn.types import Data, RandomKey, Scalar, Step, TrainState

Measures = dict[str, jax.Array]


def epoch(
    recipe: Recipe, train_state: TrainState, data: Data, *, batch_size: int
) -> tuple[TrainState, Measures]:
    """Every step of the epoch that the train state stands before.

    Args:
        recipe: From `train.recipe`.
        train_state: From `train.start`, a step or an epoch before.
        data: (inputs, targets), arrays whose first axis is the example.
        batch_size: Examples a step. Those that fill no batch sit the epoch out.

    Returns:
        The next train state, and the figures of each step, (steps,).
    """
    return whole_epoch(expect_recipe("epoch", recipe), train_state, data, batch_size)


@per_recipe(static=(3,))
def whole_epoch(
    recipe: Recipe, train_state: TrainState, data: Data, batch_size: int
) -> tuple[TrainState, Measures]:
    """A scan over the steps of an epoch."""
    now = _epoch(train_state, data, batch_size)
    order = order_of(train_state.key, now, count_examples(data), batch_size)
    return jax.lax.scan(
        lambda carry, examples: learn(recipe, carry, data, now, examples), train_state, order
    )


@partial(jax.jit, static_argnums=(2, 3))
def order_of(key: RandomKey, epoch: Step | int, examples: int, batch_size: int) -> jax.Array:
    """The examples of each step of an epoch, (steps, batch), of a run of this key."""
    return batches(jax.random.fold_in(key, ORDER), epoch, examples=examples, batch_size=batch_size)


@per_recipe(static=(3,))
def batch_at(
    recipe: Recipe, train_state: TrainState, data: Data, batch_size: int
) -> tuple[Any, Any]:
    """The batch that the next step learns from, ready for the network."""
    now = _epoch(train_state, data, batch_size)
    order = order_of(train_state.key, now, count_examples(data), batch_size)
    return _batch(recipe, train_state, data, now, order[train_state.step - now * len(order)])


def _epoch(train_state: TrainState, data: Data, batch_size: int) -> Step:
    """Which epoch a run is in."""
    return train_state.step // steps_per_epoch(data, batch_size)


def learn(
    recipe: Recipe, train_state: TrainState, data: Data, now: Step, examples: jax.Array
) -> tuple[TrainState, dict[str, Scalar]]:
    """A step on these examples of the data, as they look in this epoch."""
    return descend(recipe, train_state, *_batch(recipe, train_state, data, now, examples))


def _batch(
    recipe: Recipe, train_state: TrainState, data: Data, now: Step, examples: jax.Array
) -> tuple[Any, Any]:
    inputs, targets = take(data, examples)
    return augmented(recipe, train_state, now, inputs, targets, examples)
