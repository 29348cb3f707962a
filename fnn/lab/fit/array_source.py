"""Training on arrays: a segment is one call of one compiled program."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from fnn.errors import ConfigError, NonFiniteError
from fnn.lab.fit.clock import ValidationTimer
from fnn.lab.fit.history import Figures
from fnn.lab.fit.source import EpochPart, Segment, on_host
from fnn.train.epoch import batch_at, order_of
from fnn.train.evaluate import count_examples
from fnn.train.nonfinite import explain, state_at
from fnn.train.recipe import Recipe
from fnn.train.segment import Reached, advance, most_steps
from fnn.train.step import steps_per_epoch
from fnn.types import Data, TrainState


class ArraySource:
    """Over arrays: every stretch is one call of one compiled program, whatever the number of steps."""

    def __init__(self, recipe: Recipe, data: Data, valid: Data | None, batch_size: int):
        self.recipe, self.data, self.valid, self.batch_size = recipe, data, valid, batch_size
        self.pace = ValidationTimer()
        self.order: jax.Array | None = (
            None  # of the examples of the epoch that the last stretch leads to
        )

    @property
    def length(self) -> int:
        """As many as there are whole batches."""
        return steps_per_epoch(self.data, self.batch_size)

    @property
    def looks_ahead(self) -> bool:
        """Yes, for steps are pure."""
        return True

    def go(self, train_state: TrainState, step: int, count: int) -> Segment:
        """As one compiled loop, of as many epochs as there is room for."""
        count, place = min(count, most_steps(self.length)), step % self.length
        if (
            step < self.length - 1
        ):  # the end of the first epoch is left for the next, to know what steps take elsewhere
            count = min(count, self.length - 1 - step)
        reached = self._advance(train_state, step, count)

        def parts() -> tuple[list[EpochPart], float]:
            ends = (place + count) // self.length
            done, seconds = self.pace.arrive(
                lambda: int(reached.train_state.step) - step, count, ends
            )
            return list(self._parts(place, place + done, reached)), seconds

        return Segment(train_state, reached.train_state, step + count, parts)

    def _advance(self, train_state: TrainState, step: int, count: int) -> Reached:
        if self.order is None:
            epoch = step // self.length
            self.order = order_of(
                train_state.key, epoch, count_examples(self.data), self.batch_size
            )
        stop = np.int32(step + count)
        reached = advance(
            self.recipe, train_state, self.data, self.order, stop, self.valid, self.batch_size
        )
        self.order = reached.order
        return reached

    def _parts(self, begin: int, end: int, reached: Reached) -> Iterator[EpochPart]:
        """Epoch by epoch; steps are counted from the beginning of the first."""
        measured = self.recipe.in_order(reached.measured)
        for epoch, first in enumerate(range(0, end, self.length)):
            steps = slice(max(first - begin, 0), min(first + self.length, end) - begin)
            is_over = first + self.length <= end
            yield EpochPart(
                on_host(measured, steps), on_host(reached.validated, epoch) if is_over else None
            )

    def compile(self, train_state: TrainState) -> tuple[Figures, Figures]:
        """By a loop of no steps."""
        reached = self._advance(train_state, int(train_state.step), 0)
        return on_host(self.recipe.in_order(reached.measured), np.s_[:0]), on_host(
            reached.validated, 0
        )

    def blame(self, train_state: TrainState, step: int) -> tuple[TrainState, NonFiniteError]:
        """By running up to the step again."""
        before = state_at(self.recipe, train_state, self.data, self.valid, self.batch_size, step)
        return before, explain(
            self.recipe, before, *batch_at(self.recipe, before, self.data, self.batch_size)
        )

    def first_inputs(self, train_state: TrainState) -> Any:
        """Of the batch that the train state's step learns from."""
        return batch_at(self.recipe, train_state, self.data, self.batch_size)[0]

    def epochs(self, step: int) -> tuple[int, int]:
        """By the steps."""
        return divmod(step, self.length)

    def place(self) -> dict[str, Any]:
        """What tells these arrays from others; the order of their examples follows from key and step."""
        return {"examples": count_examples(self.data), "batch_size": self.batch_size}

    def go_to(self, place: dict[str, Any], steps: int) -> bool:
        """There is nothing to read; ConfigError for the place of another run."""
        if place and place != self.place():
            expected = " and ".join(f"{name} {value}" for name, value in place.items())
            got = " and ".join(f"{name} {value}" for name, value in self.place().items())
            raise ConfigError(
                "resume",
                f"the run that was kept, of {expected}",
                got,
                "give what it was begun with",
            )
        return True
