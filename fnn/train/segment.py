"""Segments of a run: from any step to any other, as one compiled program."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.train.epoch import Measures, current_order, order_examples, train_step_on_examples
from fnn.train.evaluate import update_on_validation, validate
from fnn.train.figures import FINITE
from fnn.train.measure import count_examples
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe
from fnn.types import Data, Step, TrainState

MIN_CAPACITY = 1024  # steps: several short epochs fit into one segment


class SegmentState(NamedTuple):
    """The state of a segment, which is the carry of its loops and its result.

    Attributes:
        train_state: After the steps so far. At the end of an epoch it is updated on validation.
        order: Order of examples in the epoch of the next step, int32 (steps, batch).
        measured: Figures of the steps of the segment by name, (capacity, ...).
        validated: Figures of the epochs that ended in the segment by name, (epochs, ...).
        is_running: Whether the segment continues.
    """

    train_state: TrainState
    order: jax.Array
    measured: Measures
    validated: Measures
    is_running: jax.Array


def segment_capacity(epoch_length: int) -> int:
    """Return the number of steps of a segment whose figures are recorded."""
    return max(epoch_length, MIN_CAPACITY)


def run_segment(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    order: jax.Array | None,
    stop: Step | np.integer,
    valid: Data | None,
    batch_size: int,
) -> SegmentState:
    """Train up to step `stop`, with validation at the end of each epoch.

    The program is the same for any number of steps and epochs. The segment ends early where early
    stopping ends the run, or after a non-finite step with on_nonfinite="raise". A segment of no
    steps at the boundary of two epochs computes the figures of validation, but updates nothing.

    Args:
        recipe: From `train.recipe`.
        train_state: At any step of a run.
        data: Validated (inputs, targets).
        order: Order of examples of the current epoch, as an earlier segment returned it; None to
            draw it.
        stop: Step at which the segment ends.
        valid: Validated (inputs, targets) for validation.
        batch_size: Examples per step.

    Returns:
        The state at the end. The figures of at most `segment_capacity` steps are recorded.
    """
    if order is None:
        _, order = current_order(train_state, data, batch_size)
    # The data is on the device already; `stop` is copied to it on purpose.
    with trees.allow_transfers():
        return _run_segment(recipe, train_state, data, order, stop, valid, batch_size)


@per_recipe(static=(6,))
def _run_segment(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    order: jax.Array,
    stop: Step | np.integer,
    valid: Data | None,
    batch_size: int,
) -> SegmentState:
    epoch_length = len(order)
    first_step = train_state.step

    def step(segment: SegmentState) -> SegmentState:
        before = segment.train_state
        epoch, index = jnp.divmod(before.step, epoch_length)
        examples = segment.order[index]
        after, figures = train_step_on_examples(recipe, before, data, epoch, examples)
        measured = _record(segment.measured, before.step - first_step, figures)
        # With "skip" and "ignore" the caller decides afterwards whether the run is lost.
        is_running = figures[FINITE] | (recipe.on_nonfinite != "raise")
        return segment._replace(train_state=after, measured=measured, is_running=is_running)

    def end_epoch(segment: SegmentState) -> SegmentState:
        before = segment.train_state
        epoch = before.step // epoch_length
        figures = validate(recipe, before, valid, batch_size)
        # Before the first step of the segment, an earlier segment has updated the train state.
        has_steps = before.step > first_step
        update = partial(update_on_validation, recipe)
        after = jax.lax.cond(has_steps, update, lambda state, _: state, before, figures)
        # The first epoch to end has index 0, also if it began before the segment.
        index = jnp.maximum(epoch - first_step // epoch_length - 1, 0)
        validated = _record(segment.validated, index, figures)
        # The key is that of the run: it does not change between epochs.
        next_order = order_examples(after.key, epoch, count_examples(data), order.shape[1])
        return segment._replace(train_state=after, order=next_order, validated=validated)

    def run_epoch(segment: SegmentState) -> SegmentState:
        """Run the remaining steps of an epoch up to `stop`, and the validation at its end."""
        epoch_end = (segment.train_state.step // epoch_length + 1) * epoch_length
        goal = jnp.minimum(stop, epoch_end)
        # Step 0 has passed, so a run that is over takes no step.
        goal = jnp.where(recipe.is_over(segment.train_state), 0, goal)
        segment = jax.lax.while_loop(
            lambda segment: segment.is_running & (segment.train_state.step < goal), step, segment
        )
        is_epoch_end = segment.train_state.step % epoch_length == 0
        segment = jax.lax.cond(is_epoch_end, end_epoch, lambda segment: segment, segment)
        is_done = (segment.train_state.step >= stop) | recipe.is_over(segment.train_state)
        return segment._replace(is_running=segment.is_running & ~is_done)

    # A while_loop does not stack outputs as a scan does, so figures are written to buffers.
    step_figures = jax.eval_shape(
        lambda: train_step_on_examples(recipe, train_state, data, first_step, order[0])[1]
    )
    epoch_figures = jax.eval_shape(lambda: validate(recipe, train_state, valid, batch_size))
    capacity = segment_capacity(epoch_length)
    max_epochs = -(-capacity // epoch_length)
    measured = _allocate(step_figures, capacity)
    validated = _allocate(epoch_figures, max_epochs)
    start = SegmentState(train_state, order, measured, validated, is_running=jnp.array(True))
    return jax.lax.while_loop(lambda segment: segment.is_running, run_epoch, start)


def _allocate(shapes: Any, length: int) -> Measures:
    """Return zeros (length, ...) for figures of these shapes."""
    return jax.tree.map(lambda shape: jnp.zeros((length, *shape.shape), shape.dtype), shapes)


def _record(records: Measures, index: Step, figures: Measures) -> Measures:
    """Write the figures at an index of the records."""
    written = {}
    for name, record in records.items():
        # Steps beyond the capacity are not recorded.
        written[name] = record.at[index].set(figures[name], mode="drop")
    return written
