"""Training on an iterable of batches: a call of one compiled step for each batch."""

from functools import partial
from typing import Any

import jax
import numpy as np

from fnn.errors import NonFiniteError
from fnn.lab.fit.history import Figures
from fnn.lab.fit.loader import Stream
from fnn.lab.fit.source import EpochPart, Segment, on_host, timed
from fnn.train.evaluate import observed, validate
from fnn.train.figures import FINITE
from fnn.train.nonfinite import explain, patience
from fnn.train.recipe import Recipe
from fnn.train.step import augmented, stepped
from fnn.types import Data, TrainState


class StreamSource:
    """Over a stream: a call a batch, and while the device computes one step, the host fetches the next batch.

    At most two steps are under way, so that a run ends at the step that loses it.
    """

    def __init__(self, recipe: Recipe, stream: Stream, valid: Data | None, batch_size: int):
        self.recipe, self.stream = recipe, stream
        self.validate = partial(validate, recipe, valid=valid, batch_size=batch_size)
        self.last: tuple[TrainState, Data] | None = None  # where the last step began, and its batch
        self.waiting: dict[str, jax.Array] | None = None  # what that step will have measured
        self.lost = 0  # steps in a row that were not finite

    @property
    def length(self) -> int | None:
        """As the stream has it."""
        return self.stream.length

    @property
    def looks_ahead(self) -> bool:
        """No: a batch that was taken is not given back."""
        return False

    def go(self, train_state: TrainState, step: int, count: int) -> Segment:
        """Batch by batch; one of another shape compiles anew."""
        first, done = train_state, list[dict[str, jax.Array]]()
        ended, waited = False, 0.0
        while len(done) < count and not ended:
            batch, seconds = timed(self.stream.pull)  # while the device computes the step before
            waited += seconds
            after, measured = stepped(self.recipe, train_state, *batch)
            if self._is_lost():  # waits for the step before
                break
            self.last, self.waiting = (train_state, batch), measured
            done.append(measured)
            train_state = after
            ended, seconds = timed(self.stream.ends)  # which may have to look for a next batch
            waited += seconds
        names = self.recipe.in_order(done[0]) if done else ()
        looked = self.validate(train_state) if ended else {}

        def parts() -> tuple[list[EpochPart], float]:
            measured = {name: np.stack([np.asarray(one[name]) for one in done]) for name in names}
            validated, seconds = timed(lambda: on_host(looked))
            return [EpochPart(measured, validated if ended else None)], seconds

        return Segment(
            first, observed(self.recipe, train_state, looked), step + len(done), parts, waited
        )

    def compile(self, train_state: TrainState) -> tuple[Figures, Figures]:
        """By a step of which nothing is kept but the time it took."""
        _, measured = stepped(self.recipe, train_state, *self.stream.peek())
        each = {
            name: value[None][:0] for name, value in on_host(self.recipe.in_order(measured)).items()
        }
        return each, on_host(self.validate(train_state))

    def blame(self, train_state: TrainState, step: int) -> tuple[TrainState, NonFiniteError]:
        """By the batch of the last step, which is at hand."""
        assert self.last is not None
        before, batch = self.last
        return before, explain(
            self.recipe, before, *augmented(self.recipe, before, before.step, *batch)
        )

    def first_inputs(self, train_state: TrainState) -> Any:
        """Of the next batch."""
        return augmented(self.recipe, train_state, train_state.step, *self.stream.peek())[0]

    def epochs(self, step: int) -> tuple[int, int]:
        """By the stream."""
        return self.stream.epochs, self.stream.taken

    def place(self) -> dict[str, Any]:
        """The stream's place."""
        return self.stream.place()

    def go_to(self, place: dict[str, Any], steps: int) -> bool:
        """By the stream."""
        return steps == 0 or self.stream.go_to(place, steps)

    def _is_lost(self) -> bool:
        if self.waiting is not None:
            self.lost = 0 if self.waiting[FINITE] else self.lost + 1
        return self.lost >= patience(self.recipe)
