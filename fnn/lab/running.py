"""The loop of a run between its doors: clock, terminal, disk and signals."""

import math
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.errors import ConfigError
from fnn.lab.courses import Course, Stretch
from fnn.lab.diaries import Diary, Figures, Row, scalars
from fnn.lab.footers import Stopwatch
from fnn.lab.interrupts import exit_by, interruptible
from fnn.lab.logs.log import Begun, Log
from fnn.lab.progress import reporting
from fnn.lab.saving import Keeper, Past, Saving, keeping, past
from fnn.lab.screens import Screen
from fnn.train.faults import PATIENCE, first_fault
from fnn.train.runs import finished
from fnn.train.steps import start_on
from fnn.train.task import Task
from fnn.types import Data, RandomKey, Result, Shape, TrainState

SECONDS_PER_CHUNK = 0.2  # often enough for a lively bar, seldom enough to cost nothing
BYTES_IN_FLIGHT = 2**26  # of the train states of a chunk that has several epochs
# Why a run ends. After the first two it is over, after the others it may be gone on with.
DONE, EARLY = "after its last epoch", "early, for it got no better"
ASKED, TOLD, LATE, FAR = "by a signal", "by on_epoch", "by max_seconds", "by max_steps"


class Limits(NamedTuple):
    """How far a run may go, and how many steps at a time where that is fixed."""

    epochs: int
    seconds: float
    steps: float
    chunk: int | None


class Plan(NamedTuple):
    """What is run: a task over a course, how it is validated and limited, and who is told of it."""

    task: Task
    course: Course
    data: Data
    valid: Data | None
    out_shape: Shape
    batch_size: int
    limits: Limits
    on_epoch: Callable[[TrainState, Mapping[str, float]], Any] | None
    log: Log
    log_every: int

    @property
    def total(self) -> int | None:
        """How many steps a whole run has, if that is known."""
        return None if self.course.length is None else self.course.length * self.limits.epochs

    @property
    def goes_by(self) -> tuple[str, int]:
        """The figure that tells the best epoch, and 1 if less of it is better, -1 if more."""
        stopping = self.task.early_stopping
        return ("valid_loss", 1) if stopping is None else (stopping.by, stopping.sign)

    def described(self) -> str:
        """The run in words."""
        epochs, length = self.limits.epochs, self.course.length
        if length is None:
            return f"{epochs} epochs of steps on {self.batch_size} examples each"
        return f"{epochs} epochs of {length} steps on {self.batch_size} examples each: {epochs * length:,} steps"


class Arrived(NamedTuple):
    """A stretch that is done: what its steps measured, what validation did, and when it was there, in seconds."""

    stretch: Stretch
    measured: Figures
    validated: Figures
    seconds: float


def follow(plan: Plan, key: RandomKey, saving: Saving | None, resume: bool | TrainState, show: bool) -> Result:
    """Do the run, or what is left of it."""
    watch = Stopwatch()
    with ExitStack() as doors:
        asked = doors.enter_context(interruptible())
        with watch.on("compiling"):
            fresh = start_on(plan.task, key, plan.data)
        keeper = doors.enter_context(keeping(saving))
        begin = past(keeper, fresh, resume)
        _expect_own(begin.train_state, key, plan.total)
        report = doors.enter_context(reporting(plan.total, int(begin.train_state.step), show))
        doors.callback(plan.log.close)
        return Running(plan, begin, keeper, Screen(report, plan.limits.epochs, plan.goes_by), asked, watch).result()


class Running:
    """A run under way."""

    def __init__(
        self, plan: Plan, begin: Past, keeper: Keeper, screen: Screen, asked: Callable[[], int], watch: Stopwatch
    ):
        self.plan, self.train_state, self.keeper, self.screen = plan, begin.train_state, keeper, screen
        self.asked, self.watch = asked, watch
        self.step = int(begin.train_state.step)
        self.is_told_to_stop = False
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.train_state))
        self.most = max(1, BYTES_IN_FLIGHT // max(size, 1))  # stretches of a chunk
        screen.introduce(begin.train_state, plan.data, plan.valid, plan.described())
        with watch.on("data"):
            if not plan.course.go_to(begin.place, self.step):
                screen.warn(f"the data cannot tell its place: its first {self.step:,} batches were read again")
        with watch.on("compiling"):
            shapes = plan.course.compile(self.train_state)
        _expect_figures(begin.figures, shapes[0] | shapes[1])
        self.diary = Diary(shapes, begin.figures, plan.course.epochs(self.step)[1])
        screen.recall(begin.figures)
        first_loss = float(shapes[1]["valid_loss"]) if self.step == 0 and plan.valid is not None else None
        screen.check(plan.task, plan.data, plan.out_shape, first_loss, watch.spent["compiling"])
        plan.log.begin(self._begun(shapes, begin.was_kept))
        self._keep()  # so that from here on the run may be killed

    def result(self) -> Result:
        """What the run gives, as far as it goes. What is done is kept, whatever ends it."""
        try:
            end = self._to_the_end()
        except Exception as error:
            self._keep()  # before anything is shown, which may be what failed
            if self.keeper.keeps:
                error.add_note(f"The run is kept as it was at step {self.keeper.kept}; resume=True goes on from there.")
            self.screen.tell()
            raise
        self._keep()
        history, asked = self.diary.history(), self.asked()
        is_over = end in (DONE, EARLY)
        go_on = "" if is_over else f"resume={self.keeper.keeps or 'result.train_state'} goes on from here"
        losses = [] if "valid_loss" not in history else history.valid_loss.tolist()
        self.screen.conclude(f"{end}, at step {self.step:,}", self.watch, losses, go_on)
        if asked and (self.keeper.keeps or asked == signal.SIGTERM):
            raise exit_by(asked)
        return Result(finished(self.plan.task, self.train_state) if is_over else self.train_state, history)

    def _to_the_end(self) -> str:
        """Chunk after chunk, where that can be with the next one under way before this one is told; why the run ends.

        All that is to be told of a chunk is told in one go: Python comes back to each thing while it is warm.
        """
        size, chunk = self.plan.limits.chunk or 1, list[Stretch]()
        began, end = self.watch.seconds(), self._end()
        while end is None:
            chunk = chunk or self._set_out(self.train_state, self.step, size)
            last = chunk[-1]
            ahead = self._set_out(last.train_state, last.step, size) if self._goes_on_from(last) else []
            arrived = [self._arrived(stretch) for stretch in chunk]
            steps, passed, began = last.step - self.step, arrived[-1].seconds - began, arrived[-1].seconds
            for one in arrived:
                self._note(one)
                if (end := self._end()) is not None:
                    break
            self.screen.tell()
            size, chunk = self.plan.limits.chunk or _next_size(steps, passed), ahead
        return end

    def _goes_on_from(self, stretch: Stretch) -> bool:
        """Whether there is another to come for certain, as far as is known before this one has arrived."""
        last = math.inf if self.plan.total is None else self.plan.total
        return self.plan.course.looks_ahead and stretch.step < min(last, self.plan.limits.steps)

    def _set_out(self, train_state: TrainState, step: int, size: int) -> list[Stretch]:
        """Begin a chunk of at most so many steps: a stretch, and after it whole epochs.

        Before the first epoch is over a part of one, too, so that it is known what steps take without validation.
        """
        chunk, stop = list[Stretch](), min(step + size, self.plan.limits.steps)
        epoch = self.plan.course.length or math.inf
        least = epoch if self.step >= epoch else 1
        while not chunk or (stop - step >= least and len(chunk) < self.most and self._goes_on_from(chunk[-1])):
            with self.watch.on("steps"):
                chunk.append(self.plan.course.go(train_state, step, int(stop - step)))
            train_state, step = chunk[-1].train_state, chunk[-1].step
            self.watch.move("steps", "data", chunk[-1].waited)
        return chunk

    def _arrived(self, stretch: Stretch) -> Arrived:
        """What it brings; waits for it."""
        with self.watch.on("steps"):
            measured, validated, seconds = stretch.figures()
        self.watch.move("steps", "validation", seconds)
        return Arrived(stretch, measured, validated, self.watch.seconds())

    def _note(self, arrived: Arrived) -> None:
        """Note what a stretch brought, and tell it.

        NonFiniteError where one of its steps loses the run, which is then put back to before that step.
        """
        stretch, measured, validated, seconds = arrived
        count = len(measured["finite"])
        self.diary.add(measured)
        flags = self.diary.recent("finite", PATIENCE)
        fault = first_fault(self.plan.task, flags)
        if fault is not None:
            self.step += count - len(flags) + fault
            self.train_state, error = self.plan.course.blame(stretch.first, self.step)
            self.diary.cut(len(flags) - fault)
            raise error
        self.train_state, self.step = stretch.train_state, self.step + count
        row = self.diary.end_epoch(validated) if stretch.ended else {}
        self._tell(measured, stretch.ended, row, seconds)

    def _end(self) -> str | None:
        """Why the run ends here, if it does."""
        stopping, limits = self.plan.task.early_stopping, self.plan.limits
        ends = {
            DONE: self.plan.course.epochs(self.step)[0] >= limits.epochs,
            EARLY: stopping is not None and bool(stopping.is_over(self.train_state)),
            ASKED: self.asked() > 0,
            TOLD: self.is_told_to_stop,
            LATE: self.watch.seconds() >= limits.seconds,
            FAR: self.step >= limits.steps,
        }
        return next((reason for reason, holds in ends.items() if holds), None)

    def _tell(self, measured: Figures, ended: bool, row: Row, seconds: float) -> None:
        """Tell logs, screen and caller of the steps, and of the epoch if they ended it; keep it when that is due."""
        self._log(measured, ended, row)
        self.screen.update(self.step, measured)
        epoch = self.plan.course.epochs(self.step)[0]
        if ended:
            self.screen.end_epoch(epoch, row, seconds)
            if self.plan.on_epoch is not None:
                self.screen.tell()  # before what it may print
                figures = {name: float(value) for name, value in row.items()}
                self.is_told_to_stop = self.plan.on_epoch(self.train_state, figures) is True
        if self.keeper.is_due(epoch if ended else None):
            by, sign = self.plan.goes_by
            score = sign * float(row.get(by, math.nan))
            self._keep(score if math.isfinite(score) else None)

    def _log(self, measured: Figures, ended: bool, row: Row) -> None:
        figures = scalars(measured)
        steps = np.arange(self.step - len(measured["finite"]), self.step) + 1
        told = steps % self.plan.log_every == 0
        told[-1] &= not ended
        if told.any():
            self.plan.log.write(steps[told], {name: values[told] for name, values in figures.items()})
        if ended:  # the last step, in whose record those of validation are
            last = {name: values[-1:] for name, values in figures.items()}
            validated = {name: np.array([value]) for name, value in row.items() if name.startswith("valid_")}
            self.plan.log.write(steps[-1:], last | validated)
            self.plan.log.look(self.step, self.train_state)

    def _keep(self, score: float | None = None) -> None:
        with self.watch.on("checkpoints"):
            self.keeper.save(self.train_state, self.diary, self.plan.course.place(), score)

    def _begun(self, shapes: tuple[Figures, Figures], resumes: bool) -> Begun:
        names = [*scalars(shapes[0]), *(name for name, value in shapes[1].items() if value.ndim == 0)]
        settings: dict[str, str | int | float] = {
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self.train_state.params)),
            "epochs": self.plan.limits.epochs,
            "batch_size": self.plan.batch_size,
        }
        return Begun(self.step, tuple(names), settings, self._images, resumes)

    def _images(self) -> np.ndarray | None:
        inputs = self.plan.course.first_inputs(self.train_state)
        return np.asarray(inputs) if getattr(inputs, "ndim", 0) == 4 else None


def _next_size(steps: int, seconds: float) -> int:
    """As many steps as take SECONDS_PER_CHUNK, after so many took so long; at most 256 times more, 16 times fewer."""
    return max(1, round(steps * min(max(SECONDS_PER_CHUNK / max(seconds, 1e-9), 1 / 16), 256)))


def _expect_figures(past: Figures, now: Figures) -> None:
    """A run that is gone on with measures what it did."""
    if past and past.keys() != now.keys():
        advice = "give the loss, metrics and valid= that it was begun with"
        raise ConfigError("resume", f"a run that measures {', '.join(past)}", ", ".join(now), advice)


def _expect_own(train_state: TrainState, key: RandomKey, total: int | None) -> None:
    """The train state that a run goes on from is one of this run."""
    if not (jax.random.key_data(train_state.key) == jax.random.key_data(key)).all():
        expected = "a train state of a run with this key"
        raise ConfigError("resume", expected, "one of another key", "give the run's own key")
    step = int(train_state.step)
    if total is not None and step > total:
        raise ConfigError("resume", f"a train state within the {total} steps", f"step {step}", "train for more epochs")
