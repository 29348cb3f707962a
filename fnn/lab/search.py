"""A search with progress, a log, checkpoints and signals."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.lab.checkpoints.reader import read
from fnn.lab.checkpoints.restore import restore
from fnn.lab.checkpoints.store import Store, checkpoint_store
from fnn.lab.console.progress import Display, progress_display
from fnn.lab.fit.signals import StopRequest, catch_signals, signal_exit
from fnn.lab.logs.log import Log, RunInfo, as_log
from fnn.search.monitor import Collected
from fnn.search.trials import Trials
from fnn.train.callback import Callback


def search(
    function: Callable[..., Trials],
    *arguments: Any,
    checkpoints: str | os.PathLike[str] | None = None,
    resume: bool = False,
    log: Log | Callback | None = None,
    show: bool = True,
    **options: Any,
) -> Trials:
    """Run a search with a progress bar, a log, checkpoints and signals.

        trials = lab.search(
            search.random, key, space, data, valid=valid, epochs=5, batch_size=64, trials=256,
            checkpoints="runs/rates", resume=True,
        )

    The trials are those of the search function, and a resumed search returns the same numbers to
    the last bit. Ctrl-C ends the search after the current epoch and returns the trials that are
    done. SIGTERM does too, and exits with code 143.

    Args:
        function: `search.random` or `search.grid`.
        arguments: Its positional arguments: key, space and data.
        checkpoints: A directory, in which the results are saved after each batch of trials.
        resume: Whether to continue the search that was saved there, if there is one.
        log: A log such as `lab.jsonl_log(path)`, which gets each trial: its number, its score and
            its numeric hyperparameters by path.
        show: Whether to print progress: the best and the median score, and how many diverged.
        options: Further arguments of the function, such as epochs and trials.

    Raises:
        FnnError: As for the function.
        ConfigError: An argument is wrong, or the directory holds another search.
        CheckpointLockedError: Another process writes into the directory.
        KeyboardInterrupt: Ctrl-C came before a batch was done.
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
    # One checkpoint is kept: it holds all results so far.
    opened = nullcontext() if checkpoints is None else checkpoint_store(checkpoints, keep=1)
    with opened as store, catch_signals() as request:
        monitor = _Monitor(
            store,
            resume,
            as_log("log", log),
            show,
            request,
        )
        with monitor.closing():
            trials = function(*arguments, **options, monitor=monitor)
    # The results are saved by now.
    if request.number == signal.SIGTERM:
        raise signal_exit(request.number)
    if not len(trials):
        raise KeyboardInterrupt
    return trials


class _Monitor:
    """The monitor of a search, as of fnn.search.execution."""

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
        self._is_begun = False  # the log
        self._open = ExitStack()
        self._done = 0

    def begin(
        self, search: Mapping[str, Any], total: int
    ) -> tuple[dict[str, Any], Callable[[Any], Any]] | None:
        """Open the log and the progress bar, and return the saved results."""
        self._search = dict(search)
        saved = self._read()
        self._done = len(saved[0]["done"]) if saved else 0
        self._display = self._open.enter_context(
            progress_display(
                total,
                self._done,
                self._show,
                unit="trial",
            )
        )
        return saved

    def is_stopped(self) -> bool:
        """Return whether a signal has come."""
        # Called before each epoch.
        if self._display is not None and not self._is_training:
            self._is_training = True
            # The programs are compiled now.
            self._display.start()
        return bool(self._request.number)

    def report(self, collected: Collected) -> None:
        """Save, log and show the results after a batch."""
        done = int(collected.done.sum())
        # Saved first, so that a crash of the log loses no trial.
        if self._store is not None:
            notes = {"search": self._search, **collected.notes()}
            self._store.save(done, collected.tree(), notes=notes)
        self._write(collected, done)
        if self._display is not None:
            self._display.update(done, _summary(collected))

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the log and the progress bar at the end of the block."""
        with self._open:
            try:
                yield
            finally:
                if self._is_begun:
                    self._log.close()

    def _read(self) -> tuple[dict[str, Any], Callable[[Any], Any]] | None:
        """Return the saved results; ConfigError if they are those of another search."""
        if self._store is None or not self._store.steps():
            return None
        directory = self._store.directory
        # The latest one that is not corrupt.
        checkpoint = read(directory)
        saved = checkpoint.notes.get("search") if isinstance(checkpoint.notes, dict) else None
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
            # The first difference is named.
            changed = [name for name, value in self._search.items() if saved.get(name) != value]
            raise ConfigError(
                f"search {changed[0]}",
                f"that of the saved search, {checks.show(saved.get(changed[0]))}",
                checks.show(self._search[changed[0]]),
                "continue it as it was begun, or give another directory",
            )
        return checkpoint.notes, lambda like: restore(checkpoint, like)

    def _write(
        self,
        collected: Collected,
        done: int,
    ) -> None:
        """Log the trials of the last batch."""
        numbers = {
            path: column for path, column in collected.columns.items() if column.dtype != object
        }
        name = collected.score.name
        if not self._is_begun:
            info = RunInfo(
                self._done,
                ("trial", name, *numbers),
                {},
                resumes=self._done > 0,
            )
            self._log.begin(info)
            self._is_begun = True
        trials = collected.last
        # Trials are logged in the order in which they are done, which need not be that of numbers.
        steps = np.arange(done - len(trials) + 1, done + 1)
        scores = collected.scores[trials].mean(1)
        figures = {path: column[trials] for path, column in numbers.items()}
        self._log.write(steps, {"trial": trials.astype(float), name: scores, **figures})


def _summary(collected: Collected) -> dict[str, float]:
    """Return the figures of the progress bar."""
    means = collected.mean_scores()
    finite = means[np.isfinite(means)]
    summary: dict[str, float] = {"diverged": len(means) - len(finite)}
    if len(finite):
        best = collected.score.sign * (collected.score.sign * finite).min()
        summary = {"best": best, "median": np.median(finite), **summary}
    return summary
