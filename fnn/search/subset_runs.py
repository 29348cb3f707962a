"""Training runs on subsets of one data set, which is not copied for them.

A run on the examples `indices` is `train.run` on (inputs[indices], targets[indices]): it takes the
same steps on the same examples with the same draws. The order of its examples is an argument of the
program, so that runs on subsets of any sizes share one compilation.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.train.early_stopping import until_over
from fnn.train.epoch import Measures, order_examples
from fnn.train.evaluate import update_on_validation
from fnn.train.figures import LOSS
from fnn.train.inputs import take_examples
from fnn.train.recipe import Recipe
from fnn.train.run import finish_run
from fnn.train.step import prepare_batch, start_on_data, train_step
from fnn.types import Data, RandomKey, Step, TrainState


class Subset(NamedTuple):
    """The examples of a run.

    Attributes:
        indices: Example index of each position of the subset, int32 (m,).
        order: Positions of the examples of each step, int32 (all steps, batch).
        epoch_length: Number of steps in an epoch of the subset.
    """

    indices: Any
    order: Any
    epoch_length: Any


class Length(NamedTuple):
    """The length of runs: `segments` times `steps` steps, each segment with a validation.

    Attributes:
        segments: Number of segments, such as epochs.
        steps: Number of steps in each.
    """

    segments: Any
    steps: Any


class Trained(NamedTuple):
    """A run.

    Attributes:
        train_state: The last one, or the best one with early stopping.
        losses: Of each step, (segments, steps), 0 where not run and NaN after early stopping.
        figures: Of validation after each segment by name, (segments,).
    """

    train_state: TrainState
    losses: jax.Array
    figures: Measures


def train_on_subset(
    recipe: Recipe,
    key: RandomKey,
    data: Data,
    subset: Subset,
    length: Length,
    capacity: tuple[int, int],
    validate: Callable[[TrainState], Measures],
) -> Trained:
    """Train on a subset of the data.

    Args:
        recipe: From `train.recipe`.
        key: The key of the run.
        data: Validated (inputs, targets).
        subset: The examples, and their order.
        length: The length of the run.
        capacity: Largest number of segments, and of steps in each.
        validate: (train state) -> figures under the names of the history, or none.
    """

    def step(index: Step, carry: tuple[TrainState, jax.Array]) -> tuple[TrainState, jax.Array]:
        train_state, losses = carry
        # (batch,)
        positions = subset.order[train_state.step]
        epoch = train_state.step // subset.epoch_length
        # (batch, ...) each
        inputs, targets = take_examples(data, subset.indices[positions])
        # Augmentation draws by the position in the subset, as in a run on a copy of it.
        batch = prepare_batch(
            recipe,
            train_state,
            epoch,
            inputs,
            targets,
            positions,
        )
        train_state, figures = train_step(recipe, train_state, *batch)
        return train_state, losses.at[index].set(figures[LOSS].astype(losses.dtype))

    def segment(train_state: TrainState) -> tuple[TrainState, tuple[jax.Array, Measures]]:
        # Steps beyond the length of the segment keep a loss of 0.
        losses = jnp.zeros(capacity[1])
        # The number of steps is an argument, while that of a scan is static.
        train_state, losses = jax.lax.fori_loop(
            0,
            length.steps,
            step,
            (train_state, losses),
        )
        validated = validate(train_state)
        return update_on_validation(recipe, train_state, validated), (losses, validated)

    unless_over = until_over(recipe.early_stopping, segment)

    def body(index: Step, carry: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
        train_state, records = carry
        train_state, figures = unless_over(train_state)
        write = partial(_write, index)
        return train_state, jax.tree.map(write, records, figures)

    first = start_on_data(recipe, key, data)
    # Buffers, since the number of segments is an argument of the program.
    shapes = jax.eval_shape(unless_over, first)[1]
    records = jax.tree.map(lambda one: jnp.zeros((capacity[0], *one.shape), one.dtype), shapes)
    last, (losses, figures) = jax.lax.fori_loop(
        0,
        length.segments,
        body,
        (first, records),
    )
    return Trained(finish_run(recipe, last), losses, figures)


def _write(
    index: Step,
    record: jax.Array,
    value: jax.Array,
) -> jax.Array:
    return record.at[index].set(value)


@partial(jax.jit, static_argnums=(1, 2, 3))
def epoch_orders(
    key: RandomKey,
    epochs: int,
    examples: int,
    batch_size: int,
) -> jax.Array:
    """Return the positions of the examples of each step of a run, int32 (all steps, batch).

    Args:
        key: The key of the run.
        epochs: Number of epochs.
        examples: Number of examples of the subset.
        batch_size: Examples per step.
    """

    def of_epoch(epoch: Step) -> jax.Array:
        return order_examples(
            key,
            epoch,
            examples,
            batch_size,
        )

    # (epochs, steps, batch)
    orders = jax.lax.map(of_epoch, jnp.arange(epochs, dtype=jnp.int32))
    # (epochs, steps, batch) -> (all steps, batch)
    return orders.reshape(-1, batch_size)


def stack_keys(keys: Sequence[RandomKey]) -> jax.Array:
    """Stack keys that are used elsewhere too."""
    # Clones, which JAX's key-reuse checker does not report.
    return jnp.stack([jax.random.clone(key) for key in keys])


def host_lengths(segments: int, steps: int) -> Length:
    """Return a length as arguments of a compiled program."""
    # As int32 of NumPy, other lengths compile nothing.
    return Length(np.int32(segments), np.int32(steps))
