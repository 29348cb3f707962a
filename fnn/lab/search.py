"""A search with progress, a log, checkpoints and signals."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, TypeVar

import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.lab.checkpoints.reader import Checkpoint, read
from fnn.lab.checkpoints.restore import restore
from fnn.lab.checkpoints.store import Store, checkpoint_store
from fnn.lab.console.progress import Display, progress_display
from fnn.lab.fit.signals import StopRequest, catch_signals, signal_exit
from fnn.lab.logs.log import Log, RunInfo, as_log
from fnn.search.hyperband import halving, hyperband
from fnn.search.monitor import Report, Saved
from fnn.search.population import population
from fnn.search.random import grid, random
from fnn.search.trials import Trials
from fnn.train.callback import Callback

SAVE_SHARE = 0.01  # of the time, spent on checkpoints
PATIENCE = 0.2  # seconds between questions whether a signal has come, where epochs are shorter

# The functions that have a monitor.
FUNCTIONS = (random, grid, halving, hyperband, population)

AnyTrials = TypeVar("AnyTrials", bound=Trials)


def search(
    function: Callable[..., AnyTrials],
    *arguments: Any,
    checkpoints: str | os.PathLike[str] | None = None,
    resume: bool = False,
    log: Log | Callback | None = None,
    show: bool = True,
    **options: Any,
) -> AnyTrials:
    """Run a search with a progress bar, a log, checkpoints and signals.

        trials = lab.search(
            search.random, key, space, data, valid=valid, epochs=5, batch_size=64, trials=256,
            checkpoints="runs/rates", resume=True,
        )

    The trials are those of the search function, and a resumed search returns the same numbers to
    the last bit. Results are saved after the first batch of trials, at the end, and in between as
    often as takes 1 % of the time. Ctrl-C ends the search after the current epoch, or the current
    round of a population, and returns the results so far. SIGTERM does too, and exits with code
    143.

    Args:
        function: `search.random`, `grid`, `halving`, `hyperband` or `population`.
        arguments: Its positional arguments: key, space and data.
        checkpoints: A directory, in which the results so far are saved.
        resume: Whether to continue the search that was saved there, if there is one, with its
            number of lanes.
        log: A log such as `lab.jsonl_log(path)`. It gets each trial: its number, its score and its
            numeric hyperparameters by path. Where trials are trained in parts, it gets them after
            each part, with the number of epochs or the round.
        show: Whether to print progress: the best and the median score of the trials that compete,
            and how many of them diverged.
        options: Further arguments of the function, such as epochs and trials.

    Raises:
        FnnError: As for the function.
        ConfigError: An argument is wrong, or the directory holds another search.
        CheckpointLockedError: Another process writes into the directory.
        KeyboardInterrupt: Ctrl-C came before there were results.
    """
    checks.flag("resume", resume)
    checks.flag("show", show)
    if resume and checkpoints is None:
        advice = "give checkpoints=, the directory of the search"
        raise ConfigError(
            "search resume",
            "checkpoints to resume from",
            None,
            advice,
        )
    if "monitor" in options:
        advice = "leave it out; call the function without lab.search to give one of your own"
        raise ConfigError(
            "search monitor",
            "that of lab.search",
            "another one",
            advice,
        )
    if not callable(function):
        advice = "give the function, as in lab.search(search.random, key, space, data, ...)"
        raise ConfigError(
            "search function",
            "a search",
            checks.show(function),
            advice,
        )
    # Others, such as a functools.partial of these, may have one.
    if getattr(function, "__module__", "").startswith("fnn.") and function not in FUNCTIONS:
        expected = f"one of {', '.join(one.__name__ for one in FUNCTIONS)}"
        advice = "call it without lab.search"
        raise ConfigError(
            "search function",
            expected,
            function.__name__,
            advice,
        )
    # One checkpoint is kept: it holds all results so far.
    opened = nullcontext() if checkpoints is None else checkpoint_store(checkpoints, keep=1)
    with opened as store, catch_signals() as request:
        monitor = _Monitor(store, resume, as_log("log", log), show, request)
        with monitor.closing():
            trials = function(*arguments, **options, monitor=monitor)
            monitor.finish()
    # The results are saved by now.
    if request.number == signal.SIGTERM:
        raise signal_exit(request.number)
    # There is no result to return.
    if not len(trials):
        raise KeyboardInterrupt
    return trials


class _Monitor:
    """The monitor of a search, as of fnn.search.monitor."""

    def __init__(
        self, store: Store | None, resume: bool, log: Log, show: bool, request: StopRequest
    ):
        self._store = store
        self._resume = resume
        self._log = log
        self._show = show
        self._request = request
        self._search: dict[str, Any] = {}
        self._display: Display | None = None
        self._is_training = False
        self._allowed = 1  # epochs
        self._asked = 0.0  # time
        self._is_begun = False  # the log
        self._open = ExitStack()
        # The rows of the log. They are saved too, since a crash can lose those of a file.
        self._rows: dict[str, np.ndarray] = {}
        self._resumed = 0  # number of rows that are restored
        self._unsaved: Report | None = None
        self._next_save = 0.0  # time

    def begin(
        self,
        search: Mapping[str, Any],
        total: int,
        unit: str,
    ) -> Saved | None:
        """Open the progress bar, and return the saved results."""
        self._search = dict(search)
        saved, done = self._read()
        self._display = self._open.enter_context(
            progress_display(total, done, self._show, unit=unit)
        )
        return saved

    def allowance(self) -> int:
        """Return 0 if a signal has come, else a number of epochs that take PATIENCE."""
        now = time.monotonic()
        if self._display is not None and not self._is_training:
            self._is_training = True
            # The programs are compiled now.
            self._display.start()
        else:
            # Each question takes time.
            seconds = max(now - self._asked, 1e-6) / self._allowed
            # At most doubled, so that one short measurement causes no long wait.
            self._allowed = int(np.clip(PATIENCE / seconds, 1, 2 * self._allowed))
        self._asked = now
        return 0 if self._request.number else self._allowed

    def report(self, report: Report) -> None:
        """Save, log and show the results after some units of work."""
        # The columns of a log are floats.
        new = {name: np.asarray(column, float) for name, column in report.rows.items()}
        before = _count(self._rows)
        if self._rows:
            self._rows = {name: np.append(self._rows[name], column) for name, column in new.items()}
        else:
            self._rows = new
        self._unsaved = report
        # Saved first, so that a crash of the log loses no results.
        if time.monotonic() >= self._next_save:
            self._save()
        self._begin_log()
        self._log.write(np.arange(before, _count(self._rows)) + 1, new)
        if self._display is not None:
            self._display.update(report.done, _summary(report))

    def finish(self) -> None:
        """Save the last results, and complete the log."""
        self._save()
        if self._rows:
            self._begin_log()

    def _save(self) -> None:
        """Save the results of the last report, unless they are saved."""
        report = self._unsaved
        if self._store is None or report is None:
            return
        began = time.monotonic()
        notes = {
            "search": self._search,
            "done": report.done,
            "names": list(self._rows),
            "rows": _count(self._rows),
            "results": report.notes,
        }
        tree = {"results": report.tree(), "rows": self._rows}
        self._store.save(report.done, tree, notes=notes)
        self._unsaved = None
        ended = time.monotonic()
        # A save of t seconds is followed by 100 t seconds of training.
        self._next_save = ended + (ended - began) / SAVE_SHARE

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the log and the progress bar at the end of the block."""
        with self._open:
            try:
                yield
            finally:
                if self._is_begun:
                    self._log.close()

    def _read(self) -> tuple[Saved | None, int]:
        """Return the saved results and their work; ConfigError if they are of another search."""
        if self._store is None or not self._store.steps():
            return None, 0
        directory = self._store.directory
        # The latest one that is not corrupt.
        checkpoint = read(directory)
        notes = checkpoint.notes if isinstance(checkpoint.notes, dict) else {}
        saved = notes.get("search")
        if not self._resume:
            advice = "give resume=True to continue it, or another directory"
            raise ConfigError(
                "search checkpoints",
                "an empty directory",
                directory,
                advice,
            )
        if saved != self._search:
            saved = saved or {}
            # The first difference is named; a newer version may have saved a further entry.
            names = [*self._search, *saved]
            changed = next(one for one in names if saved.get(one) != self._search.get(one))
            raise ConfigError(
                f"search {changed}",
                f"that of the saved search, {checks.show(saved.get(changed))}",
                checks.show(self._search.get(changed)),
                "continue it as it was begun, or give another directory",
            )
        self._restore_rows(checkpoint)
        results = Saved(notes["results"], lambda like: restore(checkpoint, like, prefix="results"))
        return results, notes["done"]

    def _restore_rows(self, checkpoint: Checkpoint) -> None:
        # Only its shape is read.
        empty = np.zeros(checkpoint.notes["rows"])
        like = dict.fromkeys(checkpoint.notes["names"], empty)
        self._rows = restore(checkpoint, like, prefix="rows")
        self._resumed = len(empty)

    def _begin_log(self) -> None:
        if self._is_begun:
            return

        def past(step: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
            steps = np.arange(step, self._resumed)
            if steps.size:
                yield steps + 1, {name: column[steps] for name, column in self._rows.items()}

        names = tuple(self._rows)
        # A log that has lost rows in a crash asks for the past ones.
        info = RunInfo(self._resumed, names, {}, resumes=self._resumed > 0, past=past)
        self._log.begin(info)
        self._is_begun = True


def _count(rows: Mapping[str, np.ndarray]) -> int:
    """Return the number of rows of a table."""
    return len(next(iter(rows.values()))) if rows else 0


def _summary(report: Report) -> dict[str, float]:
    """Return the figures of the progress bar."""
    finite = report.means[np.isfinite(report.means)]
    summary: dict[str, float] = {"diverged": len(report.means) - len(finite)}
    if len(finite):
        # The first sign turns the best into the smallest, the second one back.
        best = report.score.sign * (report.score.sign * finite).min()
        summary = {"best": best, "median": np.median(finite), **summary}
    return summary
