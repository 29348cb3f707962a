"""Where a run met numbers that are not finite."""

import jax
import numpy as np

from fnn import checks, trees
from fnn.errors import NonFiniteError
from fnn.train.epochs import advance, batch_at
from fnn.train.steps import gradients, steps_per_epoch
from fnn.train.task import Task
from fnn.types import Data, TrainState

PATIENCE = 10  # how many steps in a row may be skipped before a run is taken for lost
SHOWN = 3


def first_fault(task: Task, finite: jax.Array | np.ndarray) -> int | None:
    """The first step that ends a run, counted from the flags' start; None if there is none, or the flags are traced.

    With on_nonfinite="raise" that is the first step that is not finite, with "skip" the last of too many in a row.
    """
    if task.on_nonfinite == "ignore" or not checks.is_concrete(finite) or finite.size == 0:
        return None
    wrong = ~np.asarray(finite)
    patience = 1 if task.on_nonfinite == "raise" else PATIENCE
    runs = np.convolve(wrong, np.ones(patience, int))[: len(wrong)] == patience
    return int(runs.argmax()) if runs.any() else None


def explain(task: Task, train_state: TrainState, data: Data, batch_size: int, step: int) -> NonFiniteError:
    """The error for a step, found by running up to it again from an earlier train state and looking at every leaf."""
    length = steps_per_epoch(data, batch_size)
    while (now := int(train_state.step)) < step:
        train_state, _ = advance(task, train_state, data, min(step, (now // length + 1) * length), batch_size)
    measured, grads, state = gradients(task, train_state, *batch_at(task, train_state, data, batch_size))
    # In the order in which they are computed, so that the first one is nearest to the cause.
    parts = (
        {"state": state},
        {name: measured[name] for name in ("loss", "penalty") if name in measured},
        {"gradient": grads},
    )
    wrong = [path for part in parts for path, finite in trees.finite_leaves(part).items() if not finite]
    names = ", ".join(wrong[:SHOWN]) + (f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
    advice = 'lower the rate or look at the batch; on_nonfinite="skip" leaves such steps out'
    error = NonFiniteError(f"step {step}", "finite loss, gradients and state", f"non-finite {names}", advice)
    error.step = step
    return error
