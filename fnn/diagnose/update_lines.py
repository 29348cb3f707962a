"""The loss along the next updates of a train state."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.train.epoch import order_examples
from fnn.train.figures import LOSS
from fnn.train.inputs import NOISE, derive_key, take_examples
from fnn.train.measure import count_examples, mean, measure_examples
from fnn.train.recipe import Recipe
from fnn.train.step import prepare_batch, steps_per_epoch, train_step
from fnn.types import Data, Params, TrainState

# Multiples of an update at which the loss is evaluated; 0 is the point before the update.
FRACTIONS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0)
LINES = 3  # updates per train state along which the loss is evaluated


def next_batches(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    batch_size: int,
) -> tuple[Any, Any]:
    """Return the next batches, augmented and prepared, (LINES, batch, ...)."""
    epoch_length = steps_per_epoch(data, batch_size)
    epoch, index = jnp.divmod(train_state.step, epoch_length)
    order = order_examples(
        train_state.key,
        epoch,
        count_examples(data),
        batch_size,
    )

    def load(count: Array) -> tuple[Any, Any]:
        examples = order[(index + count) % epoch_length]
        inputs, targets = take_examples(data, examples)
        return prepare_batch(
            recipe,
            train_state,
            epoch,
            inputs,
            targets,
            examples,
        )

    return jax.lax.map(load, jnp.arange(LINES))


def follow_updates(
    recipe: Recipe,
    train_state: TrainState,
    batches: tuple[Any, Any],
) -> tuple[Params, Array, Array, Array]:
    """Return the first of the next updates, the losses along each, and the rate."""
    key = derive_key(train_state, NOISE, train_state.step)
    state, params = train_state.state, train_state.params

    def loss(
        params: Params,
        batch: Any,
    ) -> Array:
        inputs, targets = batch
        outputs, _ = recipe.network.apply(
            params,
            state,
            inputs,
            key=key,
            train=True,
        )
        return mean(measure_examples(recipe, outputs, targets)[LOSS]).astype(jnp.float32)

    def follow(index: Array) -> tuple[Params, Array, Array, Array]:
        batch = jax.tree.map(lambda array: array[index], batches)
        other = jax.tree.map(lambda array: array[(index + 1) % LINES], batches)
        after, figures = train_step(recipe, train_state, *batch)
        updates = jax.tree.map(jnp.subtract, after.params, params)

        def at(fraction: Array) -> tuple[Array, Array]:
            moved = jax.tree.map(lambda p, u: p + fraction.astype(p.dtype) * u, params, updates)
            return loss(moved, batch), loss(moved, other)

        own_line, other_line = jax.lax.map(at, jnp.asarray(FRACTIONS, jnp.float32))
        return updates, own_line, other_line, figures["rate"]

    updates, line, other_line, rates = jax.lax.map(follow, jnp.arange(LINES))
    return jax.tree.map(lambda leaf: leaf[0], updates), line, other_line, rates[0]
