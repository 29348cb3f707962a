"""Where a run met numbers that are not finite."""

import math
from typing import Any

import jax
import numpy as np

from fnn import checks, trees
from fnn.errors import NonFiniteError
from fnn.train.epoch import order_of
from fnn.train.gradients import gradients, minimized
from fnn.train.measure import count_examples
from fnn.train.recipe import Recipe
from fnn.train.segment import advance
from fnn.train.step import steps_per_epoch
from fnn.types import Data, TrainState

PATIENCE = 10  # how many steps in a row may be skipped before a run is taken for lost
SHOWN = 3


def patience(recipe: Recipe) -> float:
    """How many steps in a row that are not finite end a run."""
    return {"raise": 1, "skip": PATIENCE, "ignore": math.inf}[recipe.on_nonfinite]


def first_fault(recipe: Recipe, finite: jax.Array | np.ndarray) -> int | None:
    """The first step that ends a run, counted from the flags' start; None if there is none, or the flags are traced.

    With on_nonfinite="raise" that is the first step that is not finite, with "skip" the last of too many in a row.
    """
    if recipe.on_nonfinite == "ignore" or not checks.is_concrete(finite):
        return None
    wrong = ~np.asarray(finite)
    if not wrong.any():
        return None
    enough = int(patience(recipe))
    runs = np.convolve(wrong, np.ones(enough, int))[: len(wrong)] == enough
    return int(runs.argmax()) if runs.any() else None


def state_at(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    valid: Data | None,
    batch_size: int,
    step: int,
) -> TrainState:
    """The train state before a step, found by running up to it again from an earlier one."""
    epoch = int(train_state.step) // steps_per_epoch(data, batch_size)
    order = order_of(train_state.key, epoch, count_examples(data), batch_size)
    return advance(recipe, train_state, data, order, np.int32(step), valid, batch_size).train_state


def explain(recipe: Recipe, train_state: TrainState, inputs: Any, targets: Any) -> NonFiniteError:
    """The error for the step from this train state on inputs that are ready for the network, naming every wrong leaf.

    They are named in the order in which they are computed, so that the first one is nearest to the cause.
    """
    measured, grads, state = gradients(recipe, train_state, inputs, targets)
    parts: tuple[Any, ...] = ({"state": state}, minimized(measured), {"gradient": grads})
    wrong = [
        path for part in parts for path, finite in trees.finite_leaves(part).items() if not finite
    ]
    names = ", ".join(wrong[:SHOWN]) + (
        f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    )
    advice = 'lower the rate or look at the batch; on_nonfinite="skip" leaves such steps out'
    step = int(train_state.step)
    error = NonFiniteError(
        f"step {step}", "finite loss, gradients and state", f"non-finite {names}", advice
    )
    error.step = step
    return error
