"""How a run goes on from one door to the next: over arrays in compiled chunks, over a stream batch by batch."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from fnn.errors import ConfigError, NonFiniteError
from fnn.lab.diaries import Figures
from fnn.lab.pacing import Pace
from fnn.lab.streams import Stream
from fnn.train.epochs import advance, batch_at, order_of
from fnn.train.evaluation import count_examples, observed, validate
from fnn.train.faults import explain, patience, state_at
from fnn.train.steps import augmented, stepped, steps_per_epoch
from fnn.train.task import Task
from fnn.types import Data, RandomKey, TrainState


class Stretch(NamedTuple):
    """Steps that are under way, or done.

    first:       where they began.
    train_state: where they lead, at this step, having taken note of validation if the epoch is then over.
    ended:       whether it is.
    figures:     what each step measured, (steps,), what validation at the epoch's end did, and how many of the seconds
                 that it is waited for are validation's; waits for them.
    waited:      the seconds in which there was no batch to do a step on.
    """

    first: TrainState
    train_state: TrainState
    step: int
    ended: bool
    figures: Callable[[], tuple[Figures, Figures, float]]
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
        """So many steps, or those left in the epoch, or up to one that was not finite if that ends the run."""

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

    def __init__(self, task: Task, data: Data, valid: Data | None, batch_size: int):
        self.task, self.data, self.valid, self.batch_size = task, data, valid, batch_size
        self.pace = Pace()
        self.known: tuple[int, jax.Array] | None = None  # an epoch, and the order of its examples

    @property
    def length(self) -> int:
        """As many as there are whole batches."""
        return steps_per_epoch(self.data, self.batch_size)

    @property
    def looks_ahead(self) -> bool:
        """Yes, for steps are pure."""
        return True

    def go(self, train_state: TrainState, step: int, count: int) -> Stretch:
        """As one compiled loop, which ends by itself after a step that was not finite."""
        place = step % self.length
        count = min(count, self.length - place)
        order = self._order(train_state.key, step // self.length)
        after, records, looked = advance(
            self.task, train_state, self.data, order, np.int32(step + count), self.valid, self.batch_size
        )
        ended = place + count == self.length

        def figures() -> tuple[Figures, Figures, float]:
            measured, seconds = self.pace.arrive(lambda: _on_host(self.task.in_order(records)), count, ended)
            return {name: values[place : place + count] for name, values in measured.items()}, _on_host(looked), seconds

        after = observed(self.task, after, looked) if ended else after
        return Stretch(train_state, after, step + count, ended, figures)

    def _order(self, key: RandomKey, epoch: int) -> jax.Array:
        """Worked out once an epoch, however many stretches that has."""
        if self.known is None or self.known[0] != epoch:
            self.known = epoch, order_of(key, epoch, count_examples(self.data), self.batch_size)
        return self.known[1]

    def compile(self, train_state: TrainState) -> tuple[Figures, Figures]:
        """By a loop of no steps."""
        measured, validated, _ = self.go(train_state, int(train_state.step), 0).figures()
        self.pace = Pace()  # what comes between compiling and the first step is no step's time
        return measured, validated

    def blame(self, train_state: TrainState, step: int) -> tuple[TrainState, NonFiniteError]:
        """By running up to the step again."""
        before = state_at(self.task, train_state, self.data, self.valid, self.batch_size, step)
        return before, explain(self.task, before, *batch_at(self.task, before, self.data, self.batch_size))

    def first_inputs(self, train_state: TrainState) -> Any:
        """Of the batch that the train state's step learns from."""
        return batch_at(self.task, train_state, self.data, self.batch_size)[0]

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

    def __init__(self, task: Task, stream: Stream, valid: Data | None, batch_size: int):
        self.task, self.stream = task, stream
        self.validate = partial(validate, task, valid=valid, batch_size=batch_size)
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
            after, measured = stepped(self.task, train_state, *batch)
            if self._is_lost():  # waits for the step before
                break
            self.last, self.waiting = (train_state, batch), measured
            done.append(measured)
            train_state = after
            ended, seconds = _timed(self.stream.ends)  # which may have to look for a next batch
            waited += seconds
        names = self.task.in_order(done[0]) if done else ()
        looked = self.validate(train_state) if ended else {}

        def figures() -> tuple[Figures, Figures, float]:
            measured = {name: np.stack([np.asarray(one[name]) for one in done]) for name in names}
            return measured, *_timed(lambda: _on_host(looked))

        return Stretch(first, observed(self.task, train_state, looked), step + len(done), ended, figures, waited)

    def compile(self, train_state: TrainState) -> tuple[Figures, Figures]:
        """By a step of which nothing is kept but the time it took."""
        _, measured = stepped(self.task, train_state, *self.stream.peek())
        each = {name: value[None][:0] for name, value in _on_host(self.task.in_order(measured)).items()}
        return each, _on_host(self.validate(train_state))

    def blame(self, train_state: TrainState, step: int) -> tuple[TrainState, NonFiniteError]:
        """By the batch of the last step, which is at hand."""
        assert self.last is not None
        before, batch = self.last
        return before, explain(self.task, before, *augmented(self.task, before, before.step, *batch))

    def first_inputs(self, train_state: TrainState) -> Any:
        """Of the next batch."""
        return augmented(self.task, train_state, train_state.step, *self.stream.peek())[0]

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
            self.lost = 0 if self.waiting["finite"] else self.lost + 1
        return self.lost >= patience(self.task)


def _on_host(figures: Mapping[str, jax.Array]) -> Figures:
    return {name: np.asarray(value) for name, value in figures.items()}


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the seconds it takes."""
    began = time.monotonic()
    return function(), time.monotonic() - began
