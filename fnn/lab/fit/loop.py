"""The loop of a run between its doors: clock, terminal, disk and signals."""

import math
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.errors import ConfigError
from fnn.lab.console.progress import reporting
from fnn.lab.console.report import RunReport
from fnn.lab.fit.checkpoint_policy import CheckpointPolicy, ResumeState, RunStore, keeping, past
from fnn.lab.fit.clock import Stopwatch
from fnn.lab.fit.history import Figures, HistoryBuffer, Row, scalars
from fnn.lab.fit.signals import exit_by, interruptible
from fnn.lab.fit.source import DataSource, EpochPart, Segment
from fnn.lab.logs.log import Begun, Log
from fnn.train.callback import Callback
from fnn.train.figures import FINITE, VALID_LOSS, is_validation
from fnn.train.nonfinite import PATIENCE, first_fault
from fnn.train.recipe import Recipe
from fnn.train.run import expect_same_key, finished, watched
from fnn.train.step import start_on
from fnn.types import Data, RandomKey, Result, Shape, TrainState

SECONDS_PER_CHUNK = 0.5  # often enough for a lively bar, seldom enough to cost nothing
# Why a run ends. After the first two it is over, after the others it may be gone on with.
DONE, EARLY = "after its last epoch", "early, for it got no better"
ASKED, TOLD, LATE, FAR = "by a signal", "by callback", "by max_seconds", "by max_steps"


class Limits(NamedTuple):
    """How far a run may go, and how many steps at a time where that is fixed."""

    epochs: int
    seconds: float
    steps: float
    chunk: int | None


class FitConfig(NamedTuple):
    """A run: its recipe, data, validation and limits, and where its figures go."""

    recipe: Recipe
    course: DataSource
    data: Data
    valid: Data | None
    out_shape: Shape
    batch_size: int
    limits: Limits
    callback: Callback | None
    log: Log
    log_every: int

    @property
    def total(self) -> int | None:
        """How many steps a whole run has, if that is known."""
        return None if self.course.length is None else self.course.length * self.limits.epochs

    @property
    def goes_by(self) -> tuple[str, int]:
        """The figure that tells the best epoch, and 1 if less of it is better, -1 if more."""
        stopping = self.recipe.early_stopping
        return (VALID_LOSS, 1) if stopping is None else (stopping.by, stopping.sign)

    def described(self) -> str:
        """The run in words."""
        epochs, length = self.limits.epochs, self.course.length
        if length is None:
            return f"{epochs} epochs of steps on {self.batch_size} examples each"
        return f"{epochs} epochs of {length} steps on {self.batch_size} examples each: {epochs * length:,} steps"


def follow(
    plan: FitConfig,
    key: RandomKey,
    saving: CheckpointPolicy | None,
    resume: bool | TrainState,
    show: bool,
) -> Result:
    """Do the run, or what is left of it."""
    watch = Stopwatch()
    with ExitStack() as doors:
        asked = doors.enter_context(interruptible())
        with watch.on("compiling"):
            fresh = start_on(plan.recipe, key, plan.data)
        keeper = doors.enter_context(keeping(saving))
        begin = past(
            keeper,
            fresh,
            watched(plan.recipe, resume) if isinstance(resume, TrainState) else resume,
        )
        _expect_own(begin.train_state, key, plan.total)
        report = doors.enter_context(reporting(plan.total, int(begin.train_state.step), show))
        doors.callback(plan.log.close)
        return FitLoop(
            plan, begin, keeper, RunReport(report, plan.limits.epochs, plan.goes_by), asked, watch
        ).result()


class FitLoop:
    """A run under way."""

    def __init__(
        self,
        plan: FitConfig,
        begin: ResumeState,
        keeper: RunStore,
        screen: RunReport,
        asked: Callable[[], int],
        watch: Stopwatch,
    ):
        self.plan, self.train_state, self.keeper, self.screen = (
            plan,
            begin.train_state,
            keeper,
            screen,
        )
        self.asked, self.watch = asked, watch
        self.step = int(begin.train_state.step)
        self.is_told_to_stop = False
        self.shows_states = plan.callback is not None or keeper.keeps or plan.log.looks
        screen.introduce(begin.train_state, plan.data, plan.valid, plan.described())
        with watch.on("data"):
            if not plan.course.go_to(begin.place, self.step):
                screen.warn(
                    f"the data cannot tell its place: its first {self.step:,} batches were read again"
                )
        with watch.on("compiling"):
            shapes = plan.course.compile(self.train_state)
        _expect_figures(begin.figures, shapes[0] | shapes[1])
        self.diary = HistoryBuffer(shapes, begin.figures, plan.course.epochs(self.step)[1])
        screen.recall(begin.figures)
        first_loss = (
            float(shapes[1][VALID_LOSS]) if self.step == 0 and plan.valid is not None else None
        )
        screen.check(
            plan.recipe, plan.data, plan.out_shape, first_loss, watch.spent["compiling"], plan.total
        )
        plan.log.begin(self._begun(shapes, begin.was_kept))
        self._keep()  # so that from here on the run may be killed

    def result(self) -> Result:
        """What the run gives, as far as it goes. What is done is kept, whatever ends it."""
        try:
            end = self._to_the_end()
        except Exception as error:
            self._keep()  # before anything is shown, which may be what failed
            if self.keeper.keeps:
                error.add_note(
                    f"The run is kept as it was at step {self.keeper.kept}; resume=True goes on from there."
                )
            self.screen.tell()
            raise
        self._keep()
        history, asked = self.diary.history(), self.asked()
        is_over = end in (DONE, EARLY)
        go_on = (
            ""
            if is_over
            else f"resume={self.keeper.keeps or 'result.train_state'} goes on from here"
        )
        losses = [] if VALID_LOSS not in history else history[VALID_LOSS].tolist()
        self.screen.conclude(f"{end}, at step {self.step:,}", self.watch, losses, go_on)
        if asked and (self.keeper.keeps or asked == signal.SIGTERM):
            raise exit_by(asked)
        return Result(
            finished(self.plan.recipe, self.train_state) if is_over else self.train_state, history
        )

    def _to_the_end(self) -> str:
        """Segment after stretch, where that can be with the next one under way before this one is told; why it ends."""
        size, stretch, began = self.plan.limits.chunk or 1, None, self.watch.seconds()
        while (end := self._end()) is None:
            stretch = stretch or self._set_out(self.train_state, self.step, size)
            ahead = (
                self._set_out(stretch.train_state, stretch.step, size)
                if self._goes_on_from(stretch)
                else None
            )
            with self.watch.on("steps"):
                parts, seconds = stretch.parts()
            self.watch.move("steps", "validation", seconds)
            now, first = self.watch.seconds(), self.step
            self._note(stretch, parts, began, now)
            self.screen.tell()  # in one go: Python comes back to each thing while it is warm
            size = self.plan.limits.chunk or _next_size(self.step - first, now - began)
            stretch, began = ahead, now
        return end

    def _goes_on_from(self, stretch: Segment) -> bool:
        """Whether there is another to come for certain, as far as is known before this one has arrived."""
        return self.plan.course.looks_ahead and stretch.step < self._last()

    def _last(self) -> float:
        """At which step it ends, if nothing ends it before."""
        return min(math.inf if self.plan.total is None else self.plan.total, self.plan.limits.steps)

    def _set_out(self, train_state: TrainState, step: int, size: int) -> Segment:
        """So many steps at most, and not beyond the end of an epoch where somebody looks at the train state then."""
        length, stop = self.plan.course.length, min(step + size, self._last())
        if self.shows_states and length is not None:
            stop = min(stop, (step // length + 1) * length)
        with self.watch.on("steps"):
            stretch = self.plan.course.go(train_state, step, int(stop - step))
        self.watch.move("steps", "data", stretch.waited)
        return stretch

    def _note(self, stretch: Segment, parts: Sequence[EpochPart], began: float, now: float) -> None:
        """Note what a stretch between these seconds brought, and tell it epoch by epoch.

        NonFiniteError where one of its steps loses the run, which is then put back to before that step.
        """
        first, steps = self.step, sum(len(part.measured[FINITE]) for part in parts)
        for measured, validated in parts:
            self.diary.add(measured)
            self._expect_finite(stretch, len(measured[FINITE]))
            self.train_state, self.step = stretch.train_state, self.step + len(measured[FINITE])
            row = None if validated is None else self.diary.end_epoch(validated)
            self._tell(measured, row, began + (now - began) * (self.step - first) / steps)

    def _expect_finite(self, stretch: Segment, steps: int) -> None:
        flags = self.diary.recent(FINITE, PATIENCE)
        fault = first_fault(self.plan.recipe, flags)
        if fault is not None:
            self.step += steps - len(flags) + fault
            self.train_state, error = self.plan.course.blame(stretch.first, self.step)
            self.diary.cut(len(flags) - fault)
            raise error

    def _end(self) -> str | None:
        """Why the run ends here, if it does."""
        stopping, limits = self.plan.recipe.early_stopping, self.plan.limits
        ends = {
            DONE: self.plan.course.epochs(self.step)[0] >= limits.epochs,
            EARLY: stopping is not None and bool(stopping.is_over(self.train_state)),
            ASKED: self.asked() > 0,
            TOLD: self.is_told_to_stop,
            LATE: self.watch.seconds() >= limits.seconds,
            FAR: self.step >= limits.steps,
        }
        return next((reason for reason, holds in ends.items() if holds), None)

    def _tell(self, measured: Figures, row: Row | None, seconds: float) -> None:
        """Tell logs, screen and caller of steps, and of the epoch if they ended it; keep it when that is due."""
        self._log(measured, row)
        self.screen.update(self.step, measured)
        epoch = self.plan.course.epochs(self.step)[0]
        if row is not None:
            self.screen.end_epoch(epoch, row, seconds)
            if self.plan.callback is not None:
                self.screen.tell()  # before what it may print
                figures = {name: float(value) for name, value in row.items()}
                self.is_told_to_stop = _is_true(self.plan.callback(self.step, figures))
        if self.keeper.is_due(None if row is None else epoch):
            by, sign = self.plan.goes_by
            score = sign * float((row or {}).get(by, math.nan))
            self._keep(score if math.isfinite(score) else None)

    def _log(self, measured: Figures, row: Row | None) -> None:
        figures = scalars(measured)
        steps = np.arange(self.step - len(measured[FINITE]), self.step) + 1
        told = steps % self.plan.log_every == 0
        told[-1] &= row is None
        if told.any():
            self.plan.log.write(
                steps[told], {name: values[told] for name, values in figures.items()}
            )
        if row is not None:  # the last step, in whose record those of validation are
            last = {name: values[-1:] for name, values in figures.items()}
            validated = {
                name: np.array([value]) for name, value in row.items() if is_validation(name)
            }
            self.plan.log.write(steps[-1:], last | validated)
            self.plan.log.look(self.step, self.train_state)

    def _keep(self, score: float | None = None) -> None:
        with self.watch.on("checkpoints"):
            self.keeper.save(self.train_state, self.diary, self.plan.course.place(), score)

    def _begun(self, shapes: tuple[Figures, Figures], resumes: bool) -> Begun:
        names = [
            *scalars(shapes[0]),
            *(name for name, value in shapes[1].items() if value.ndim == 0),
        ]
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


def _is_true(answer: Any) -> bool:
    """Whether a callback asks to end the run: it returns True, of Python, NumPy or JAX."""
    return np.shape(answer) == () and np.asarray(answer).dtype == bool and bool(answer)


def _expect_figures(past: Figures, now: Figures) -> None:
    """A run that is gone on with measures what it did."""
    if past and past.keys() != now.keys():
        advice = "give the loss, metrics and valid= that it was begun with"
        raise ConfigError(
            "resume", f"a run that measures {', '.join(past)}", ", ".join(now), advice
        )


def _expect_own(train_state: TrainState, key: RandomKey, total: int | None) -> None:
    """The train state that a run goes on from is one of this run."""
    expect_same_key(train_state, key)
    step = int(train_state.step)
    if total is not None and step > total:
        raise ConfigError(
            "resume",
            f"a train state within the {total} steps",
            f"step {step}",
            "train for more epochs",
        )
