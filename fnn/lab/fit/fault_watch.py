"""Faults that the recorded figures of a run show while it is under way, and at its end."""

import math
import time
from collections.abc import Callable, Mapping

from fnn import trees
from fnn.diagnose import Finding, Findings, examine_history
from fnn.lab.fit.history import HistoryBuffer
from fnn.lab.fit.input_clock import InputClock
from fnn.train.figures import FINITE, LOSS, RATE, VALID_LOSS
from fnn.train.instrumentation import instrument_columns
from fnn.train.recipe import Recipe
from fnn.types import Data, Params, Shape

# What the rules read. To join all arrays of a long run would take longer than the rules do.
FIGURES = (LOSS, RATE, FINITE, VALID_LOSS, "dead_share", "saturated_share")
GROWTH = 1.25  # least ratio of the steps of two examinations: their number is a logarithm
COST_SHARE = 0.01  # most time of examinations, relative to that of the run
FIRST_COST = 2e-3  # seconds, assumed for the first one


class FaultWatch:
    """Examines the history of a run at ends of epochs, and reports each finding once.

    The examinations take at most 1 % of the time of the run. Where the next one may take more, it
    is left out, so that a short run is examined at its end alone.

    Args:
        recipe: From `train.recipe`.
        params: Parameters of the network.
        data: Training data as arrays, or the first batch of an iterable.
        out_shape: Shape of one output of the network.
        epoch_length: Steps per epoch, or None where it is not known.
        planned_steps: Steps of the run, or None where they are not known.
        inputs: Time of waiting for the loader.
        clock: Returns seconds.
    """

    def __init__(
        self,
        recipe: Recipe,
        params: Params,
        data: Data,
        out_shape: Shape,
        epoch_length: int | None,
        planned_steps: int | None,
        inputs: InputClock,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._chance = chance_of(recipe, out_shape)
        self._columns: Mapping[str, tuple[str, ...]] = instrument_columns(recipe, params, data[0])
        self._epoch_length = epoch_length or 1
        self._planned_steps = planned_steps
        self._inputs = inputs
        self._clock = clock
        self._began = clock()
        self._spent = 0.0
        self._last_cost = FIRST_COST
        self._last_steps = 0
        self._reported: set[tuple[str, str]] = set()

    def restore(self, history: HistoryBuffer) -> None:
        """Count the findings before a run is resumed as reported."""
        if history.steps:
            self._new(self._examine(history, self._planned_steps))

    def update(self, history: HistoryBuffer) -> Findings:
        """Return errors and warnings that were not reported before; none if it is not yet time."""
        began = self._clock()
        budget = COST_SHARE * (began - self._began)
        is_due = history.steps >= GROWTH * self._last_steps
        if self._planned_steps is None or not is_due or self._spent + self._last_cost > budget:
            return Findings()
        found = self._new(self._examine(history, self._planned_steps))
        self._last_steps = history.steps
        self._last_cost = self._clock() - began
        self._spent += self._last_cost
        return found

    def finish(self, history: HistoryBuffer) -> Findings:
        """Return all findings at the end of the run."""
        return self._examine(history, None)

    def _examine(self, history: HistoryBuffer, planned_steps: int | None) -> Findings:
        figures = history.select(FIGURES)
        if not figures[LOSS].size:
            return Findings()
        found = examine_history(
            figures,
            epoch_length=self._epoch_length,
            chance=self._chance,
            columns=self._columns,
            planned_steps=planned_steps,
        )
        return found + self._inputs.findings()

    def _new(self, findings: Findings) -> Findings:
        new: list[Finding] = []
        for finding in findings.errors + findings.warnings:
            name = finding.id, finding.name
            if name not in self._reported:
                self._reported.add(name)
                new.append(finding)
        return Findings(new)


def chance_of(recipe: Recipe, out_shape: Shape) -> float | None:
    """Return the loss of guessing, or None where it is not known.

    Args:
        recipe: From `train.recipe`.
        out_shape: Shape of one output of the network.
    """
    is_array = trees.is_shape(out_shape) and bool(out_shape)
    if not recipe.loss.probabilities or not is_array:
        return None
    return math.log(out_shape[-1]) if out_shape[-1] > 1 else None
