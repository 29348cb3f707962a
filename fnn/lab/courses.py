"""How a run goes on from one door to the next: over arrays in compiled chunks, over a stream batch by batch."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from fnn.errors import ConfigError, NonFiniteError
from fnn.lab.diaries import Figures
from fnn.lab.pacing import Pace
from fnn.lab.streams import Stream
from fnn.train.advancing import Reached, advance, most_steps
from fnn.train.epochs import batch_at, order_of
from fnn.train.evaluation import count_examples, observed, validate
from fnn.train.faults import explain, patience, state_at
from fnn.train.figures import FINITE
from fnn.train.recipe import Recipe
from fnn.train.steps import augmented, stepped, steps_per_epoch
from fnn.types import Data, TrainState


class Part(NamedTuple):
    """What was done of an epoch.

    measured:  by each step, (steps,)
    validated: by validation, if the epoch ended with them
    """

    measured: Figures
    validated: Figures | None


class Stretch(NamedTuple):
    """Steps that are under way, or done.

    first:       where they began.
    train_state: where they lead, at this step at most, having taken note of validation if an epoch is then over.
    parts:       what they are of each epoch, and how many of the seconds that it waits for them are validation's.
    waited:      the seconds in which there was no batch to do a step on.
    """

    first: TrainState
    train_state: TrainState
    step: int
    parts: Callable[[], tuple[list[Part], float]]
    waited: float = 0.0


class Course(Protocol):
    """What a run goes over."""

    @property
    def length(self) -> int | None:
        """Steps an epoch, if that is known."""

    @property
    def looks_ahead(self) -> bool:
        """Whether the next steps may be set out on before the last are done, and given up without a trace."""

    def go(self, train_state: TrainState, step: int, count: int) -> Stretch:
        """So many steps or fewer, at least one; not beyond one that ends the run."""

    def compile(self, train_state: TrainState) -> tuple[Figures, Figures]:
        """Do as `go` does, without a step; what will be measured, (0,), and validation, true where no step is done."""

    def blame(self, train_state: TrainState, step: int) -> tuple[TrainState, NonFiniteError]:
        """For a step of the last stretch, which began here: the train state before it, and what was not finite."""

    def first_inputs(self, train_state: TrainState) -> Any:
        """The inputs of the next step as the network sees them."""

    def epochs(self, step: int) -> tuple[int, int]:
        """At this step, how many are over, and how many steps of the one under way."""

    def place(self) -> dict[str, Any]:
        """What a checkpoint must keep, besides the train state, to go on from here."""

    def go_to(self, place: dict[str, Any], steps: int) -> bool:
        """Go on from there, after so many steps; whether what was done before had not to be read again for it."""


class ArrayCourse:
    """Over arrays: every stretch is one call of one compiled program, whatever the number of steps."""

    def __init__(self, recipe: Recipe, data: Data, valid: Data | None, batch_size: int):
        self.recipe, self.data, self.valid, self.batch_size = recipe, data, valid, batch_size
        self.pace = Pace()
        self.order: jax.Array | None = None  # of the examples of the epoch that the last stretch leads to

    @property
    def length(self) -> int:
        """As many as there are whole batches."""
        return steps_per_epoch(self.data, self.batch_size)

    @property
    def looks_ahead(self) -> bool:
        """Yes, for steps are pure."""
        return True

    def go(self, train_state: TrainState, step: int, count: int) -> Stretch:
        """As one compiled loop, of as many epochs as there is room for."""
        count, place = min(count, most_steps(self.length)), step % self.length
        if step < self.length - 1:  # the end of the first epoch is left for the next, to know what steps take elsewhere
            count = min(count, self.length - 1 - step)
        reached = self._advance(train_state, step, count)

        def parts() -> tuple[list[Part], float]:
            ends = (place + count) // self.length
            done, seconds = self.pace.arrive(lambda: int(reached.train_state.step) - step, count, ends)
            return list(self._parts(place, place + done, reached)), seconds

        return Stretch(train_state, reached.train_state, step + count, parts)

    def _advance(self, train_state: TrainState, step: int, count: int) -> Reached:
        if self.order is None:
            epoch = step // self.length
            self.order = order_of(train_state.key, epoch, count_examples(self.data), self.batch_size)
        stop = np.int32(step + count)
        reached = advance(self.recipe, train_state, self.data, self.order, stop, self.valid, self.batch_size)
        self.order = reached.order
        return reached

    def _parts(self, begin: int, end: int, reached: Reached) -> Iterator[Part]:
        """Epoch by epoch; steps are counted from the beginning of the first."""
        measured = self.recipe.in_order(reached.measured)
        for epoch, first in enumerate(range(0, end, self.length)):
            steps = slice(max(first - begin, 0), min(first + self.length, end) - begin)
            is_over = first + self.length <= end
            yield Part(_on_host(measured, steps), _on_host(reached.validated, epoch) if is_over else None)

    def compile(self, train_state: TrainState) -> tuple[Figures, Figures]:
        """By a loop of no steps."""
        reached = self._advance(train_state, int(train_state.step), 0)
        return _on_host(self.recipe.in_order(reached.measured), np.s_[:0]), _on_host(reached.validated, 0)

    def blame(self, train_state: TrainState, step: int) -> tuple[TrainState, NonFiniteError]:
        """By running up to the step again."""
        before = state_at(self.recipe, train_state, self.data, self.valid, self.batch_size, step)
        return before, explain(self.recipe, before, *batch_at(self.recipe, before, self.data, self.batch_size))

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
            raise ConfigError("resume", f"the run that was kept, of {expected}", got, "give what it was begun with")
        return True


class StreamCourse:
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

    def go(self, train_state: TrainState, step: int, count: int) -> Stretch:
        """Batch by batch; one of another shape compiles anew."""
        first, done = train_state, list[dict[str, jax.Array]]()
        ended, waited = False, 0.0
        while len(done) < count and not ended:
            batch, seconds = _timed(self.stream.pull)  # while the device computes the step before
            waited += seconds
            after, measured = stepped(self.recipe, train_state, *batch)
            if self._is_lost():  # waits for the step before
                break
            self.last, self.waiting = (train_state, batch), measured
            done.append(measured)
            train_state = after
            ended, seconds = _timed(self.stream.ends)  # which may have to look for a next batch
            waited += seconds
        names = self.recipe.in_order(done[0]) if done else ()
        looked = self.validate(train_state) if ended else {}

        def parts() -> tuple[list[Part], float]:
            measured = {name: np.stack([np.asarray(one[name]) for one in done]) for name in names}
            validated, seconds = _timed(lambda: _on_host(looked))
            return [Part(measured, validated if ended else None)], seconds

        return Stretch(first, observed(self.recipe, train_state, looked), step + len(done), parts, waited)

    def compile(self, train_state: TrainState) -> tuple[Figures, Figures]:
        """By a step of which nothing is kept but the time it took."""
        _, measured = stepped(self.recipe, train_state, *self.stream.peek())
        each = {name: value[None][:0] for name, value in _on_host(self.recipe.in_order(measured)).items()}
        return each, _on_host(self.validate(train_state))

    def blame(self, train_state: TrainState, step: int) -> tuple[TrainState, NonFiniteError]:
        """By the batch of the last step, which is at hand."""
        assert self.last is not None
        before, batch = self.last
        return before, explain(self.recipe, before, *augmented(self.recipe, before, before.step, *batch))

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


def _on_host(figures: Mapping[str, jax.Array], part: Any = ...) -> Figures:
    """A copy, which does not hold on to the rest."""
    return {name: np.array(np.asarray(value)[part]) for name, value in figures.items()}


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the seconds it takes."""
    began = time.monotonic()
    return function(), time.monotonic() - began
