"""The training loop of `lab.fit`."""

import math
import signal
import warnings
from contextlib import ExitStack
from enum import Enum
from typing import Any

import numpy as np

from fnn import trees
from fnn.errors import NonFiniteError
from fnn.lab.console.progress import progress_display
from fnn.lab.console.report import RunReport, describe_run
from fnn.lab.fit.checkpoint_policy import (
    expect_same_figures,
    expect_same_run,
    open_run_store,
)
from fnn.lab.fit.chunks import count_steps, next_chunk
from fnn.lab.fit.clock import Stopwatch
from fnn.lab.fit.config import FitConfig
from fnn.lab.fit.fault_watch import FaultWatch
from fnn.lab.fit.history import HistoryBuffer, Row
from fnn.lab.fit.input_clock import InputClock
from fnn.lab.fit.records import log_before_failure, log_steps, run_info
from fnn.lab.fit.signals import Interrupted, catch_signals, signal_exit
from fnn.lab.fit.source import DataSource, Segment
from fnn.lab.fit.votes import Votes, count_votes
from fnn.train.devices import current_layout, place_state
from fnn.train.figures import FINITE, VALID_LOSS
from fnn.train.nonfinite import PATIENCE, find_fatal_step
from fnn.train.processes import agreement, announce, note_announced, spans_processes
from fnn.train.recipe import Recipe
from fnn.train.run import finish_run, prepare_resume
from fnn.train.step import start_on_data
from fnn.types import Result, TrainState


class StopReason(Enum):
    """Why a run ended. The value is the text of the summary."""

    LAST_EPOCH = "after its last epoch"
    EARLY_STOPPING = "by early stopping"
    SIGNAL = "by a signal"
    CALLBACK = "by callback"
    MAX_SECONDS = "by max_seconds"
    MAX_STEPS = "by max_steps"

    @property
    def is_complete(self) -> bool:
        """Whether the run is over. Otherwise it can be resumed."""
        return self in (StopReason.LAST_EPOCH, StopReason.EARLY_STOPPING)


def run_loop(
    config: FitConfig,
    source: DataSource,
    stopwatch: Stopwatch,
    inputs: InputClock,
) -> Result:
    """Train segment by segment, and report, log and save between segments.

    A segment is a number of steps that the device computes without the host. The next segment is
    launched before the last one is reported, so that the device does not wait for the host.

    Args:
        config: The arguments of `lab.fit`.
        source: The data to train on.
        stopwatch: Counts the time of the run by purpose.
        inputs: Compares the time of batches with that of steps.
    """
    recipe = config.recipe
    layout = current_layout()
    is_shared = spans_processes(layout)
    stopping = recipe.early_stopping
    epoch_length = source.epoch_length
    total = None if epoch_length is None else epoch_length * config.epochs
    last_step = min(math.inf if total is None else total, config.max_steps)

    with ExitStack() as stack:
        # Initialize, or load the last checkpoint. From here on, a signal is a request to stop.
        stop_request = stack.enter_context(catch_signals())
        with stopwatch.measure("compiling"):
            initial_state = start_on_data(recipe, config.key, config.data)
        store = stack.enter_context(open_run_store(config.checkpoints, recipe, layout))
        resume = config.resume
        if isinstance(resume, TrainState):
            resume = prepare_resume(recipe, resume)
        with agreement("checkpoints", layout) as agreed:
            begin = store.load(initial_state, resume)
            agreed.facts = store.describe(begin)
        train_state = place_state(layout, begin.train_state)
        step = int(trees.read(train_state.step))
        expect_same_run(train_state, config.key, total)

        # Print the header, go to the position in the data, and compile.
        display = stack.enter_context(progress_display(total, step, config.show))
        stack.callback(config.log.close)
        criterion, sign = _criterion(recipe)
        report = RunReport(display, config.epochs, criterion, sign)
        description = describe_run(config.epochs, config.batch_size, epoch_length)
        report.print_header(train_state, config.data, config.valid, description)
        with stopwatch.measure("data"), stop_request.interruptible():
            is_restored = source.seek(begin.position, step)
        if begin.changes:
            text = f"the recipe differs from that of the saved run: {begin.changes}"
            # Without a display, the caller must learn of it as well.
            warn = report.warn if config.show else warnings.warn
            warn(text)
        if not is_restored:
            batches = f"its first {step:,} batches were read again"
            report.warn(f"the data has no saved position: {batches}")
        # Of train_state. A stream is ahead of it while steps are under way.
        position = source.position() if store.is_active else {}
        with stopwatch.measure("compiling"):
            shapes = source.compile(train_state)
        expect_same_figures(begin.figures, shapes)

        # Print the checks, open the log, and save the beginning: from here on a kill loses nothing.
        _, epoch_steps = source.count_epochs(step)
        history = HistoryBuffer(shapes, begin.figures, begin.epoch_ends, step, epoch_steps)
        report.restore(begin.figures)
        is_measured = step == 0 and config.valid is not None
        first_loss = float(shapes[1][VALID_LOSS]) if is_measured else None
        compile_seconds = stopwatch.spent["compiling"]
        report.print_preflight(
            recipe, train_state, config.data, config.out_shape, first_loss, compile_seconds, total
        )
        config.log.begin(run_info(config, source, train_state, shapes, begin.is_saved, history))
        with stopwatch.measure("checkpoints"):
            store.save(train_state, history, position)

        watch = FaultWatch(
            recipe,
            train_state.params,
            config.data,
            config.out_shape,
            epoch_length,
            None if math.isinf(last_step) else int(last_step),
            inputs,
        )
        needs_findings = config.show or config.log.uses_findings
        watch.restore(history)

        # A segment may include several epochs, unless the states between them are needed.
        needs_states = config.callback is not None or store.is_active or config.log.uses_states
        boundary = epoch_length if needs_states else None
        chunk = config.chunk or 1  # steps of the next segment
        segment: Segment | None = None  # launched, but not yet recorded
        segment_began = stopwatch.seconds()
        callback_stops = False
        stop_reason: StopReason | None = None
        try:
            while True:
                # Check the stop conditions. Several processes decide together.
                votes = Votes(
                    stop_request.number,
                    callback_stops,
                    stopwatch.seconds(),
                    chunk,
                    store.is_overdue(),
                )
                votes = count_votes(layout, step, votes)
                chunk = votes.chunk
                epoch, _ = source.count_epochs(step)
                if epoch >= config.epochs:
                    stop_reason = StopReason.LAST_EPOCH
                elif stopping is not None and bool(stopping.is_over(train_state)):
                    stop_reason = StopReason.EARLY_STOPPING
                elif votes.signal:
                    stop_reason = StopReason.SIGNAL
                elif votes.callback_stops:
                    stop_reason = StopReason.CALLBACK
                elif votes.seconds >= config.max_seconds:
                    stop_reason = StopReason.MAX_SECONDS
                elif step >= config.max_steps:
                    stop_reason = StopReason.MAX_STEPS
                if stop_reason is not None:
                    break

                with stopwatch.measure("steps"):
                    # Launch this segment, if it is not under way, and the one after it. The latter
                    # is discarded if the run ends before, as by early stopping.
                    if segment is None:
                        count = count_steps(step, chunk, last_step, boundary)
                        with stop_request.interruptible():
                            segment = source.launch(train_state, step, count)
                    next_segment = None
                    if source.can_launch_ahead and segment.stop < last_step:
                        count = count_steps(segment.stop, chunk, last_step, boundary)
                        next_segment = source.launch(segment.train_state, segment.stop, count)

                    # Wait for the figures of this segment.
                    parts = source.wait(segment)
                arrived = stopwatch.seconds()
                seconds = arrived - segment_began
                segment_steps = sum(len(part.measured[FINITE]) for part in parts)

                # Record them, epoch by epoch.
                first_step = step
                for measured, validated in parts:
                    history.add_steps(measured)
                    part_steps = len(measured[FINITE])
                    recent = history.last(FINITE, PATIENCE)
                    fatal = find_fatal_step(recipe, recent)
                    if fatal is not None:
                        # Go back to the state before the step that makes the run fail.
                        done = part_steps - len(recent) + fatal
                        step += done
                        train_state, position, failure = source.diagnose(segment, step)
                        history.drop_last(part_steps - done)
                        log_before_failure(config, measured, done, step, failure)
                        raise failure
                    train_state = segment.train_state
                    position = source.position() if store.is_active else {}
                    step += part_steps
                    row = None if validated is None else history.end_epoch(validated)

                    # Log, and collect lines to print.
                    epoch, _ = source.count_epochs(step)
                    log_steps(config, measured, row, step)
                    if row is not None:
                        config.log.on_state(step, train_state)
                    report.update(step, measured)
                    if row is not None:
                        # The end of the epoch, as if all steps of the segment took the same time.
                        epoch_ended = seconds * (step - first_step) / segment_steps
                        report.end_epoch(epoch, row, segment_began + epoch_ended)

                    # Call back at the end of an epoch.
                    if row is not None and config.callback is not None:
                        report.flush()  # before the callback may print
                        figures = {name: float(value) for name, value in row.items()}
                        with stop_request.interruptible():
                            callback_stops = _is_true(config.callback(step, figures))

                    # Save.
                    is_overdue = votes.is_overdue if is_shared else store.is_overdue()
                    if store.is_due(None if row is None else epoch, is_overdue):
                        score = None if row is None else _score(row, criterion, sign)
                        with stopwatch.measure("checkpoints"):
                            store.save(train_state, history, position, score)

                found = watch.update(history) if needs_findings else ()
                if found:
                    report.note_findings(step, found)
                    config.log.on_findings(step, found)

                # Print in one go, because each call of a terminal is slow. Then adapt the number of
                # steps to the speed.
                report.flush()
                chunk = config.chunk or next_chunk(step - first_step, seconds)
                segment = next_segment
                segment_began = arrived
        except Interrupted:
            # The loader or the callback was blocked. The steps that were launched are discarded.
            stop_reason = StopReason.SIGNAL
        except Exception as error:
            # All processes raise the error of a step; others are of this process alone.
            together = not is_shared or isinstance(error, NonFiniteError)
            if together:
                note_announced(error)
            else:
                announce("fit", error)
            # Save first, because the error may come from printing, which would fail again.
            with stopwatch.measure("checkpoints"):
                store.save(train_state, history, position, together=together)
            if store.is_active:
                error.add_note(
                    f"The run was saved at step {store.saved_step}; resume=True continues there."
                )
            report.flush()
            raise

        # Save the end, print the summary, and return.
        with stopwatch.measure("checkpoints"):
            store.save(train_state, history, position)
        advice = ""
        if not stop_reason.is_complete:
            state = "True" if store.is_active else "result.train_state"
            advice = f"resume={state} continues the run"
        findings = watch.finish(history)
        recorded = history.history(findings)
        losses = recorded[VALID_LOSS].tolist() if VALID_LOSS in recorded else []
        reason = f"{stop_reason.value}, at step {step:,}"
        report.print_footer(reason, stopwatch, losses, advice, findings)
        number = votes.signal or stop_request.number
        # After Ctrl-C without checkpoints, the result is all there is: it is returned.
        if number and (store.is_active or number == signal.SIGTERM):
            leaving = signal_exit(number)
            note_announced(leaving)
            raise leaving
        if stop_reason.is_complete:
            train_state = finish_run(recipe, train_state)
        return Result(train_state, recorded)


def _criterion(recipe: Recipe) -> tuple[str, int]:
    """Return the figure that decides the best epoch, and 1 if lower is better, else -1."""
    if recipe.early_stopping is None:
        return VALID_LOSS, 1
    return recipe.early_stopping.by, recipe.stopping_sign


def _score(row: Row, criterion: str, sign: int) -> float | None:
    """Return the score of a checkpoint at the end of an epoch, the lower the better."""
    score = sign * float(row.get(criterion, math.nan))
    return score if math.isfinite(score) else None


def _is_true(value: Any) -> bool:
    """Return whether a callback returned True, of Python, NumPy or JAX, and not a truthy value."""
    return np.shape(value) == () and np.asarray(value).dtype == bool and bool(value)
