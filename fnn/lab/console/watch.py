"""One bar and one log for many runs that are one program."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import numpy as np

from fnn import checks
from fnn.lab.console.progress import Report, reporting
from fnn.lab.console.table import Table
from fnn.lab.fit.clock import Stopwatch
from fnn.lab.logs.log import Begun, Log, as_log
from fnn.lab.logs.summarize import summarize_runs
from fnn.train.callback import Callback
from fnn.train.figures import LOSS, OVER, RATE, VALID_LOSS

APART = (OVER, RATE)  # figures that are not judged


@contextmanager
def progress(epochs: int, *, log: Any = None, show: bool = True) -> Iterator[Callback]:
    """Progress of a run inside of jit and vmap: `with lab.progress(20) as watch: train.run(..., callback=watch)`.

    One bar and one table for all lanes of a mapped run, with the best of them, their median, and how many have diverged
    or were stopped early; a log, as of `lab.fit`, is told the same after each epoch. A run that is not mapped is a
    population of one. Returns when all that was said is heard. Where that fails, as by a log's file that is there
    already, nothing more is told, and the error is raised in the end.
    """
    logs, failed = as_log("log", log), list[Exception]()
    with ExitStack() as doors:
        report = doors.enter_context(
            reporting(checks.whole("epochs", epochs), 0, checks.flag("show", show), "epoch")
        )
        doors.callback(logs.close)
        yield _until_failed(_told(report, logs), failed)
        jax.effects_barrier()
        if failed:
            raise failed[0]


def _until_failed(tell: Callback, failed: list[Exception]) -> Callback:
    """Tell up to the first error, which is put by: JAX, which calls this, would hide it in an error of its own."""

    def tell_unless_failed(step: Any, figures: Mapping[str, np.ndarray]) -> None:
        if not failed:
            try:
                tell(step, figures)
            except Exception as error:
                failed.append(error)

    return tell_unless_failed


def _told(report: Report, log: Log) -> Callback:
    watch = Stopwatch()
    table: Table | None = None
    done = 0

    def tell(step: Any, figures: Mapping[str, np.ndarray]) -> None:
        nonlocal table, done
        lanes = {name: np.atleast_1d(np.asarray(value)) for name, value in figures.items()}
        loss = next(iter(lanes.values()))
        going = ~lanes.get(
            OVER, np.zeros(loss.shape, bool)
        )  # lab.fit does not go on with a run that is over
        if not going.any():
            return
        numbers = {
            name: lanes[name][going]
            for name in lanes
            if name not in APART and lanes[name].ndim == 1
        }
        row = summarize_runs(numbers) | {"stopped": float((~going).sum())}
        shown = _shown(row)
        if table is None:
            report.begin()
            log.begin(Begun(0, tuple(row), {"runs": len(going)}))
            table = Table(list(shown), report.columns, marks=False)
            report.say(table.head())
        done += 1
        report.say(table.row(done, shown, watch.seconds()))
        report.update(done, {})
        log.write(
            np.atleast_1d(np.asarray(step)).max(keepdims=True),
            {name: np.array([value]) for name, value in row.items()},
        )

    return tell


def _shown(row: Mapping[str, float]) -> dict[str, float]:
    """What there is room for: the loss that runs are judged by, and what became of them."""
    loss = VALID_LOSS if f"{VALID_LOSS}_best" in row else LOSS
    counts = {name: int(row[name]) for name in ("diverged", "stopped")}
    return {name: row[name] for name in (f"{loss}_best", f"{loss}_median")} | counts
