"""Training on an iterable of batches: one call of a compiled step per batch."""

from typing import Any, NamedTuple

import jax
import numpy as np

from fnn import trees
from fnn.lab.fit.clock import Stopwatch
from fnn.lab.fit.history import Figures
from fnn.lab.fit.input_clock import InputClock
from fnn.lab.fit.loader import BatchStream
from fnn.lab.fit.source import Diagnosis, EpochPart, Segment, on_host
from fnn.train.evaluate import update_on_validation, validate
from fnn.train.figures import FINITE
from fnn.train.nonfinite import nonfinite_error, nonfinite_limit
from fnn.train.recipe import Recipe
from fnn.train.step import prepare_batch, train_step_on_batch
from fnn.types import Data, TrainState


class StepCall(NamedTuple):
    """A call of the compiled step.

    Attributes:
        before: The train state before the step.
        position: The position of the stream before the step.
        batch: The batch of the step.
        measured: The figures of the step, on the device.
    """

    before: TrainState
    position: dict[str, Any]
    batch: Data
    measured: dict[str, jax.Array]


class StreamSource:
    """Trains on a stream. While the device computes a step, the host fetches the next batch.

    At most two steps are under way, so that the run ends at the step that makes it fail.

    Args:
        recipe: From `train.recipe`.
        stream: The batches.
        valid: The validation data, or None.
        batch_size: Examples per step of validation.
        stopwatch: Counts the time of waiting for batches and for validation.
        inputs: Compares the time of batches with that of steps.
    """

    # A batch that was taken cannot be given back to the loader.
    can_launch_ahead = False

    def __init__(
        self,
        recipe: Recipe,
        stream: BatchStream,
        valid: Data | None,
        batch_size: int,
        stopwatch: Stopwatch,
        inputs: InputClock,
    ):
        self.epoch_length = stream.epoch_length
        self._recipe = recipe
        self._stream = stream
        self._valid = valid
        self._batch_size = batch_size
        self._stopwatch = stopwatch
        self._inputs = inputs
        self._last_call: StepCall | None = None
        self._nonfinite_steps = 0  # in a row
        # The error of the next batch, which is raised when it is needed.
        self._failure: Exception | None = None

    def compile(self, train_state: TrainState) -> tuple[Figures, Figures]:
        """Compile by a step on the next batch, whose train state is discarded."""
        _, figures = train_step_on_batch(self._recipe, train_state, *self._stream.peek())
        measured = {}
        for name, value in on_host(self._recipe.in_order(figures)).items():
            measured[name] = value[None][:0]  # (...) -> (0, ...)
        return measured, on_host(self._validate(train_state))

    def launch(self, train_state: TrainState, step: int, max_steps: int) -> Segment:
        """Launch steps batch by batch, up to the end of the epoch.

        A batch of another shape compiles another program.
        """
        if self._failure is not None:
            raise self._failure
        first_state = train_state
        measured_steps: list[dict[str, jax.Array]] = []
        ends_epoch = False
        while len(measured_steps) < max_steps and not ends_epoch:
            fetched = self._stopwatch.spent["data"]
            # Meanwhile the device computes the step before.
            try:
                with self._stopwatch.measure("data"):
                    batch = self._stream.take()
            except Exception as error:
                # The steps before a wrong batch are recorded first.
                if not measured_steps:
                    raise
                self._failure = error
                break
            position = self._stream.position_before
            after, measured, step_seconds = self._step(train_state, batch)
            # Waits for the step before. The step that was just launched is then discarded.
            if self._has_failed():
                break
            # Only of the last step, state and batch stay in memory.
            self._last_call = StepCall(train_state, position, batch, measured)
            measured_steps.append(measured)
            train_state = after
            # Without a known length, the epoch ends where there is no next batch.
            try:
                with self._stopwatch.measure("data"):
                    ends_epoch = self._stream.end_epoch()
            except Exception as error:
                # The batch that was read ahead is wrong.
                self._failure = error
                break
            self._inputs.add_step(self._stopwatch.spent["data"] - fetched, step_seconds)
        # Validation is launched as well: the host waits for it in `wait`.
        validated = self._validate(train_state) if ends_epoch else None
        updated = update_on_validation(self._recipe, train_state, validated or {})
        return Segment(
            first_state,
            updated,
            first_step=step,
            stop=step + len(measured_steps),
            figures=(measured_steps, validated),
        )

    def wait(self, segment: Segment) -> list[EpochPart]:
        """Wait for the steps, then for validation if the epoch ended."""
        measured_steps, validated = segment.figures
        measured = {}
        # The order of names is that of the history of `train.run`.
        for name in self._recipe.in_order(measured_steps[0]):
            values = [trees.read(figures[name]) for figures in measured_steps]
            measured[name] = np.stack(values)  # (steps, ...)
        if validated is None:
            return [EpochPart(measured, None)]
        with self._stopwatch.measure("validation"):
            return [EpochPart(measured, on_host(validated))]

    def diagnose(self, segment: Segment, step: int) -> Diagnosis:
        """Compute the last step again: the run fails at the last step of a segment."""
        assert self._last_call is not None
        recipe = self._recipe
        before = self._last_call.before
        inputs, targets = prepare_batch(recipe, before, before.step, *self._last_call.batch)
        error = nonfinite_error(recipe, before, inputs, targets)
        return Diagnosis(before, self._last_call.position, error)

    def next_inputs(self, train_state: TrainState) -> Any:
        """Return the inputs of the next step as the network gets them."""
        batch = self._stream.peek()
        inputs, _ = prepare_batch(self._recipe, train_state, train_state.step, *batch)
        return inputs

    def count_epochs(self, step: int) -> tuple[int, int]:
        """Return the number of epochs done, and of steps in the current one."""
        return self._stream.epochs, self._stream.taken

    def position(self) -> dict[str, Any]:
        """Return the position of the stream."""
        return self._stream.position()

    def seek(self, position: dict[str, Any], steps: int) -> bool:
        """Go to a position of the stream, or read the batches before it again."""
        return steps == 0 or self._stream.seek(position, steps)

    def _step(
        self,
        train_state: TrainState,
        batch: Data,
    ) -> tuple[TrainState, dict[str, jax.Array], float | None]:
        """Launch a step; return its seconds if it was waited for, to know them."""
        if not self._inputs.is_probe:
            after, measured = train_step_on_batch(self._recipe, train_state, *batch)
            return after, measured, None
        jax.block_until_ready(train_state)
        began = self._inputs.clock()
        after, measured = train_step_on_batch(self._recipe, train_state, *batch)
        jax.block_until_ready(measured)
        return after, measured, self._inputs.clock() - began

    def _validate(self, train_state: TrainState) -> dict[str, jax.Array]:
        return validate(self._recipe, train_state, self._valid, self._batch_size)

    def _has_failed(self) -> bool:
        """Wait for the last step, and return whether its non-finite figures end the run."""
        if self._last_call is not None:
            is_finite = bool(trees.read(self._last_call.measured[FINITE]))
            self._nonfinite_steps = 0 if is_finite else self._nonfinite_steps + 1
        return self._nonfinite_steps >= nonfinite_limit(self._recipe)
