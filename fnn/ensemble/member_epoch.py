"""An epoch of a member of an ensemble: on all examples, or on its bootstrap sample."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn.train.early_stopping import until_over
from fnn.train.epoch import Measures, current_order, run_epoch
from fnn.train.evaluate import update_on_validation, validate
from fnn.train.inputs import BOOTSTRAP, take_examples
from fnn.train.measure import count_examples
from fnn.train.recipe import Recipe
from fnn.train.step import prepare_batch, train_step
from fnn.types import Data, RandomKey, TrainState


def train_on_all(
    batch_size: int, recipe: Recipe, train_state: TrainState, data: Data, valid: Data | None
) -> tuple[TrainState, Measures]:
    """Train by one epoch; return the figures of each step, and those of validation."""

    def train(train_state: TrainState) -> tuple[TrainState, Measures]:
        return run_epoch(recipe, train_state, data, batch_size, None, None)

    return _validated(train, batch_size, recipe, train_state, valid)


def train_on_bootstrap(
    batch_size: int, recipe: Recipe, train_state: TrainState, data: Data, valid: Data | None
) -> tuple[TrainState, Measures]:
    """Train by one epoch on the bootstrap sample of a run, as `train_on_all` on a copy of it."""

    def train(train_state: TrainState) -> tuple[TrainState, Measures]:
        # Drawn again in each epoch, which takes less time than the order of the examples.
        sample = bootstrap_indices(train_state.key, count_examples(data))
        # Positions within the sample, (steps, batch).
        index, order = current_order(train_state, data, batch_size)

        def step(train_state: TrainState, positions: jax.Array) -> tuple[TrainState, Measures]:
            # (batch,) positions -> (batch,) examples -> (batch, ...)
            inputs, targets = take_examples(data, sample[positions])
            # Augmentation draws by the position, so that copies of an example differ.
            batch = prepare_batch(
                recipe,
                train_state,
                index,
                inputs,
                targets,
                positions,
            )
            return train_step(recipe, train_state, *batch)

        return jax.lax.scan(step, train_state, order)

    return _validated(train, batch_size, recipe, train_state, valid)


def _validated(
    train: Callable[[TrainState], tuple[TrainState, Measures]],
    batch_size: int,
    recipe: Recipe,
    train_state: TrainState,
    valid: Data | None,
) -> tuple[TrainState, Measures]:
    """Train by one epoch and validate, unless early stopping has ended the run."""

    def epoch(train_state: TrainState) -> tuple[TrainState, Measures]:
        train_state, measured = train(train_state)
        validated = validate(recipe, train_state, valid, batch_size)
        return update_on_validation(recipe, train_state, validated), measured | validated

    return until_over(recipe.early_stopping, epoch)(train_state)


def bootstrap_indices(key: RandomKey, examples: int) -> jax.Array:
    """Draw the indices of a sample of all examples with replacement, int32 (examples,).

    Args:
        key: The key of the run.
        examples: Number of examples in the data.
    """
    # A use of its own: order and noise draw from other keys.
    own_key = jax.random.fold_in(key, BOOTSTRAP)
    return jax.random.randint(
        own_key,
        (examples,),
        0,
        examples,
        jnp.int32,
    )
