"""Training on arrays: a segment is one call of a compiled program."""

import time
from functools import cached_property
from typing import Any

import jax
import numpy as np

from fnn import trees
from fnn.errors import ConfigError
from fnn.lab.fit.clock import Stopwatch, ValidationTimer
from fnn.lab.fit.history import Figures
from fnn.lab.fit.source import Diagnosis, EpochPart, Segment, on_host
from fnn.train.epoch import next_batch
from fnn.train.measure import count_examples
from fnn.train.nonfinite import nonfinite_error, replay_to_step
from fnn.train.recipe import Recipe
from fnn.train.run_facts import digest_examples
from fnn.train.segment import SegmentState, run_segment, segment_capacity
from fnn.train.step import steps_per_epoch
from fnn.types import Data, TrainState


class ArraySource:
    """Trains on arrays. The program is the same for segments of any number of steps and epochs.

    Args:
        recipe: From `train.recipe`.
        data: The training data, (inputs, targets).
        valid: The validation data, or None.
        batch_size: Examples per step.
        stopwatch: Counts the time of validation.
    """

    # Steps are pure functions: a segment can be discarded without effect.
    can_launch_ahead = True

    def __init__(
        self,
        recipe: Recipe,
        data: Data,
        valid: Data | None,
        batch_size: int,
        stopwatch: Stopwatch,
    ):
        self.epoch_length = steps_per_epoch(data, batch_size)
        self._recipe = recipe
        self._data = data
        self._valid = valid
        self._batch_size = batch_size
        self._stopwatch = stopwatch
        self._validation_timer = ValidationTimer()
        # Order of the examples in the epoch in which the last segment ends.
        self._order: jax.Array | None = None

    def compile(self, train_state: TrainState) -> tuple[Figures, Figures]:
        """Compile by a segment of no steps, which validates at the beginning of an epoch."""
        state = self._run(train_state, stop=int(trees.read(train_state.step)))
        measured = self._recipe.in_order(state.measured)
        return on_host(measured, np.s_[:0]), on_host(state.validated, 0)

    def launch(self, train_state: TrainState, step: int, max_steps: int) -> Segment:
        """Launch one call, which may include several short epochs."""
        # The program has room for the figures of a limited number of steps.
        count = min(max_steps, segment_capacity(self.epoch_length))
        # The last step of the first epoch is left to the next segment: then a segment without
        # validation exists, which gives the time per step.
        first_epoch_rest = self.epoch_length - 1 - step
        if first_epoch_rest > 0:
            count = min(count, first_epoch_rest)
        stop = step + count
        state = self._run(train_state, stop)
        return Segment(train_state, state.train_state, step, stop, state)

    def wait(self, segment: Segment) -> list[EpochPart]:
        """Wait for the call, and split its figures by epoch."""
        wait_began = time.monotonic()
        last_step = self._block(segment)
        arrived = time.monotonic()
        self._count_validation(segment, wait_began, arrived)
        return self._split(segment, last_step)

    def diagnose(self, segment: Segment, step: int) -> Diagnosis:
        """Train again from the beginning of the segment up to the step."""
        recipe = self._recipe
        train_state = replay_to_step(
            recipe,
            segment.first_state,
            self._data,
            self._valid,
            self._batch_size,
            step,
        )
        inputs, targets = next_batch(recipe, train_state, self._data, self._batch_size)
        error = nonfinite_error(recipe, train_state, inputs, targets)
        return Diagnosis(train_state, self.position(), error)

    def next_inputs(self, train_state: TrainState) -> Any:
        """Return the inputs of the next step as the network gets them."""
        inputs, _ = next_batch(self._recipe, train_state, self._data, self._batch_size)
        return inputs

    def count_epochs(self, step: int) -> tuple[int, int]:
        """Return the number of epochs done after a step, and of steps in the current one."""
        return divmod(step, self.epoch_length)

    def position(self) -> dict[str, Any]:
        """Return values by which the data is recognized: the order follows from key and step."""
        return {
            "examples": count_examples(self._data),
            "batch_size": self._batch_size,
            "digest": self._digest,
        }

    @cached_property
    def _digest(self) -> str:
        return digest_examples(self._data)

    def seek(self, position: dict[str, Any], steps: int) -> bool:
        """Check that the position is of the same data. There is nothing to read.

        Raises:
            ConfigError: The examples or the batch size differ.
        """
        current = self.position()
        if position and position.keys() != current.keys():
            raise ConfigError(
                "data",
                "an iterable of batches, as in the saved run",
                "arrays",
                "give the data of the saved run",
            )
        if position and position != current:
            raise ConfigError(
                "resume",
                f"data as in the saved run, {_format(position)}",
                _format(current),
                "give the data and batch_size of the saved run",
            )
        return True

    def _run(self, train_state: TrainState, stop: int) -> SegmentState:
        """Call the compiled program, which returns before the device is done."""
        state = run_segment(
            self._recipe,
            train_state,
            self._data,
            self._order,
            np.int32(stop),
            self._valid,
            self._batch_size,
        )
        # The next segment begins where this one ends, so that its order is known already.
        self._order = state.order
        return state

    def _block(self, segment: Segment) -> int:
        """Wait until the device is done, and return the number of steps done."""
        return int(trees.read(segment.train_state.step))

    def _count_validation(self, segment: Segment, wait_began: float, arrived: float) -> None:
        """Count the estimated part of the wait that was validation."""
        # Planned numbers: they differ from the actual ones only in the last segment of a run.
        first_epoch, _ = self.count_epochs(segment.first_step)
        last_epoch, _ = self.count_epochs(segment.stop)
        seconds = self._validation_timer.estimate(
            wait_began,
            arrived,
            steps=segment.stop - segment.first_step,
            validations=last_epoch - first_epoch,
        )
        self._stopwatch.move("steps", "validation", seconds)

    def _split(self, segment: Segment, last_step: int) -> list[EpochPart]:
        """Split the figures of the steps that were done by epoch."""
        state: SegmentState = segment.figures
        # Each figure is (capacity, ...). Its first rows are of the steps of this segment, in order.
        measured = self._recipe.in_order(state.measured)
        parts: list[EpochPart] = []
        begin = segment.first_step
        while begin < last_step:
            epoch, _ = self.count_epochs(begin)
            epoch_end = (epoch + 1) * self.epoch_length
            end = min(epoch_end, last_step)
            rows = slice(begin - segment.first_step, end - segment.first_step)
            # Figures of validation are (max_epochs, ...), one row per epoch that ended.
            validated = None
            if end == epoch_end:
                validated = on_host(state.validated, len(parts))
            parts.append(EpochPart(on_host(measured, rows), validated))
            begin = end
        return parts


def _format(position: dict[str, Any]) -> str:
    shortened = position | {"digest": str(position["digest"])[:8]}
    return " and ".join(f"{name} {value}" for name, value in shortened.items())
