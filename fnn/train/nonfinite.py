"""Detection and diagnosis of steps whose numbers are not finite."""

import math
from typing import Any

import jax
import numpy as np

from fnn import checks, trees
from fnn.errors import NonFiniteError
from fnn.train.gradients import gradients, objective_terms
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe
from fnn.train.segment import run_segment
from fnn.types import Data, TrainState

PATIENCE = 10  # skipped steps in a row after which on_nonfinite="skip" ends a run
MAX_NAMES = 3  # arrays named in an error


def nonfinite_limit(recipe: Recipe) -> float:
    """Return the number of non-finite steps in a row that ends a run."""
    return {"raise": 1, "skip": PATIENCE, "ignore": math.inf}[recipe.on_nonfinite]


def find_fatal_step(recipe: Recipe, finite: jax.Array | np.ndarray) -> int | None:
    """Find the first step that ends a run: the last of `nonfinite_limit` non-finite ones in a row.

    Args:
        recipe: Its on_nonfinite option applies.
        finite: Flags of consecutive steps, (steps,).

    Returns:
        The index into the flags; None if no step ends the run, or the flags are traced.
    """
    if recipe.on_nonfinite == "ignore" or not checks.is_concrete(finite):
        return None
    wrong = ~trees.read(finite)
    if not wrong.any():
        return None
    limit = int(nonfinite_limit(recipe))
    # Entry i is the number of wrong steps among the last `limit` ones up to step i.
    recent_count = np.convolve(wrong, np.ones(limit, int))[: len(wrong)]
    fatal = recent_count == limit
    return int(fatal.argmax()) if fatal.any() else None


def replay_to_step(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    valid: Data | None,
    batch_size: int,
    step: int,
) -> TrainState:
    """Return the train state before a step, by running again from an earlier train state."""
    stop = np.int32(step)
    segment = run_segment(recipe, train_state, data, None, stop, valid, batch_size)
    return segment.train_state


def nonfinite_error(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
) -> NonFiniteError:
    """Return the error for a step, which names the non-finite arrays.

    The arrays are in the order of their computation, so the first one is nearest to the cause.

    Args:
        recipe: From `train.recipe`.
        train_state: Before the step.
        inputs: Arrays (batch, ...), augmented and prepared.
        targets: Arrays (batch, ...).
    """
    wrong = []
    for part in jax.device_get(_are_finite(recipe, train_state, inputs, targets)):
        wrong += [path for path, finite in part.items() if not finite]
    names = ", ".join(wrong[:MAX_NAMES])
    if len(wrong) > MAX_NAMES:
        names += f" and {len(wrong) - MAX_NAMES} more"
    advice = 'lower the rate or look at the batch; on_nonfinite="skip" leaves such steps out'
    step = int(trees.read(train_state.step))
    expected = "finite loss, gradients and state"
    error = NonFiniteError(f"step {step}", expected, f"non-finite {names}", advice)
    error.step = step
    error.train_state = train_state
    return error


@per_recipe()
def _are_finite(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
) -> tuple[dict[str, jax.Array], ...]:
    """Return whether the arrays of a step are finite, by path, part by part as computed."""
    found = gradients(recipe, train_state, inputs, targets)
    computed: tuple[Any, ...] = (
        {"state": found.state},
        objective_terms(found.figures),
        {"gradient": found.grads},
    )
    return tuple(map(trees.finite_leaves, computed))
