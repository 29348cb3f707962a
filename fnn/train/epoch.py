"""One epoch of training: a scan over its steps."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.data import batches
from fnn.train.common_layout import common_layout
from fnn.train.devices import (
    adopt,
    expect_divisible,
    layout_of_data,
    layout_of_state,
    place_data,
    place_state,
    use_layout,
)
from fnn.train.inputs import ORDER, take_examples, validate_examples
from fnn.train.measure import count_examples
from fnn.train.processes import agreement, spans_processes
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.remat import scan_segments
from fnn.train.run_facts import call_facts
from fnn.train.step import expect_train_state, prepare_batch, steps_per_epoch, train_step
from fnn.types import Data, RandomKey, Scalar, Step, TrainState

# Figures of steps or epochs by name.
Measures = dict[str, jax.Array]


def epoch(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    *,
    batch_size: int,
) -> tuple[TrainState, Measures]:
    """Run every step of the epoch that the train state is at the beginning of.

    Args:
        recipe: From `train.recipe`.
        train_state: From `train.start`, or from an earlier step or epoch.
        data: (inputs, targets), arrays whose first axis is the example. If they are divided among
            the devices of a mesh, or the train state is on one, each computes a part of a batch.
        batch_size: Examples per step. The remainder that fills no batch is left out of the epoch.

    Returns:
        The next train state, and the figures of each step, (steps,), by name.

    Raises:
        ConfigError: `recipe` is not a recipe with an optimizer, or the data does not fill a batch.
        FnnError: The data does not fit the recipe, as for `train.run`.
    """
    expect_recipe("epoch", recipe)
    expect_train_state("epoch", train_state)
    layout = common_layout("epoch data", layout_of_data(data), layout_of_state(train_state))
    with agreement("epoch", layout) as agreed:
        data = validate_examples("data", recipe, adopt(layout, data), trains=True)
        # Raises an error if the data fills no batch.
        steps_per_epoch(data, batch_size)
        expect_divisible("batch_size", layout, batch_size)
        if spans_processes(layout):
            agreed.facts = call_facts(recipe, data, batch_size)
    with use_layout(layout):
        placed = place_data(layout, data)
        train_state = place_state(layout, train_state)
        return run_epoch(recipe, train_state, placed, batch_size, None, None)


@per_recipe(static=(3, 4, 5))
def run_epoch(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    batch_size: int,
    segment: int | None,
    gradient_from: int | None,
) -> tuple[TrainState, Measures]:
    """Scan over the steps of an epoch.

    Args:
        recipe: From `train.recipe`.
        train_state: At the beginning of the epoch.
        data: Validated (inputs, targets).
        batch_size: Examples per step.
        segment: Steps of a segment of `scan_segments`; None for a plain scan.
        gradient_from: Step before which the train state is a constant to derivatives, or None.
    """
    # order: (steps, batch). The scan takes one row per step.
    index, order = current_order(train_state, data, batch_size)

    def step(train_state: TrainState, examples: jax.Array) -> tuple[TrainState, Measures]:
        if gradient_from is not None:
            train_state = _stop_gradient_at(gradient_from, train_state)
        return train_step_on_examples(recipe, train_state, data, index, examples)

    if segment is None:
        return jax.lax.scan(step, train_state, order)
    return scan_segments(step, train_state, order, length=len(order), segment=segment)


def _stop_gradient_at(step: int, train_state: TrainState) -> TrainState:
    """Make the train state a constant to derivatives if it is the one before this step."""
    is_first = train_state.step == step

    def stop(leaf: jax.Array) -> jax.Array:
        # Counts and keys have no derivative.
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.where(is_first, jax.lax.stop_gradient(leaf), leaf)

    return jax.tree.map(stop, train_state)


def current_order(
    train_state: TrainState,
    data: Data,
    batch_size: int,
) -> tuple[Step | int, jax.Array]:
    """Return the index of the epoch that a train state is in, and the order of its examples.

    Returns:
        The index, and the indices of the examples of each step, int32 (steps, batch).
    """
    step: Step | int = train_state.step
    if checks.is_concrete(step):
        # A Python int: dividing an array outside of jit would compile another program.
        step = int(trees.read(step))
    index = step // steps_per_epoch(data, batch_size)
    # Outside of jit, the index is copied to the device on purpose.
    with trees.allow_transfers():
        order = order_examples(train_state.key, index, count_examples(data), batch_size)
    return index, order


@partial(jax.jit, static_argnums=(2, 3))
def order_examples(
    key: RandomKey,
    epoch: Step | int,
    examples: int,
    batch_size: int,
) -> jax.Array:
    """Draw the order of examples in one epoch of a run with this key.

    All forms of a run call this function, so the order depends on key and epoch alone.

    Args:
        key: Key of the run.
        epoch: Index of the epoch.
        examples: Number of examples in the data.
        batch_size: Examples per step.

    Returns:
        The indices of the examples of each step, int32 (steps, batch).
    """
    # The epoch is folded in by `batches`.
    order_key = jax.random.fold_in(key, ORDER)
    return batches(order_key, epoch, examples=examples, batch_size=batch_size)


@per_recipe(static=(3,))
def next_batch(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    batch_size: int,
) -> tuple[Any, Any]:
    """Return the batch of the next step, augmented and prepared for the network."""
    index, order = current_order(train_state, data, batch_size)
    # The index of the step within its epoch.
    examples = order[train_state.step - index * len(order)]
    return _load_batch(recipe, train_state, data, index, examples)


def train_step_on_examples(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    epoch: Step | int,
    examples: jax.Array,
) -> tuple[TrainState, dict[str, Scalar]]:
    """Train one step on the examples of these indices (batch,), augmented for this epoch."""
    inputs, targets = _load_batch(recipe, train_state, data, epoch, examples)
    return train_step(recipe, train_state, inputs, targets)


def _load_batch(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    epoch: Step | int,
    examples: jax.Array,
) -> tuple[Any, Any]:
    inputs, targets = take_examples(data, examples)
    return prepare_batch(recipe, train_state, epoch, inputs, targets, examples)
