"""Progress of a run inside of jit and vmap: one bar and one log for all lanes."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import numpy as np

from fnn import checks
from fnn.lab.console.progress import Display, progress_display
from fnn.lab.console.table import Table
from fnn.lab.fit.clock import Stopwatch
from fnn.lab.logs.log import Log, RunInfo, as_log
from fnn.lab.logs.summarize import summarize_runs
from fnn.train.callback import Callback
from fnn.train.figures import LOSS, OVER, RATE, VALID_LOSS

NOT_SUMMARIZED = (OVER, RATE)


@contextmanager
def progress(epochs: int, *, log: Any = None, show: bool = True) -> Iterator[Callback]:
    """Show and log the progress of a run inside of jit and vmap.

    The lanes of a mapped run share one bar, one table and one log: the figures of the best lane,
    the median over lanes, and the numbers of lanes that diverged or were stopped early. A run
    that is not mapped is one lane.

    ```python
    with lab.progress(20) as watch:
        train.run(key, recipe, data, epochs=20, batch_size=64, callback=watch)
    ```

    The block ends after all figures have arrived. An error of the output, such as a log file that
    already exists, does not stop the run: it ends the output, and is raised at the end.

    Args:
        epochs: Epochs of the run.
        log: A log, as of `lab.fit`. It gets the summary of the lanes after each epoch.
        show: Whether to print a bar and a table.

    Raises:
        ConfigError: An argument is wrong, or the log refuses to begin.
    """
    checks.whole("epochs", epochs)
    checks.flag("show", show)
    run_log = as_log("log", log)
    with ExitStack() as stack:
        display = stack.enter_context(progress_display(epochs, 0, show, "epoch"))
        stack.callback(run_log.close)
        errors: list[Exception] = []
        yield _until_error(_reporter(display, run_log), errors)
        # Callbacks from inside of jit are asynchronous: wait for the last one.
        jax.effects_barrier()
        if errors:
            raise errors[0]


def _until_error(callback: Callback, errors: list[Exception]) -> Callback:
    """Make a callback that stores the first error and then does nothing."""

    # JAX, which calls this, would wrap the error into one of JAX.
    def call(step: Any, figures: Mapping[str, np.ndarray]) -> None:
        if errors:
            return
        try:
            callback(step, figures)
        except Exception as error:
            errors.append(error)

    return call


def _reporter(display: Display, log: Log) -> Callback:
    """Make a callback that prints and logs a summary of the lanes."""
    stopwatch = Stopwatch()
    table: Table | None = None
    epoch = 0

    def report(step: Any, figures: Mapping[str, np.ndarray]) -> None:
        nonlocal table, epoch
        # Without vmap each figure is one number. -> (lanes, ...)
        lanes = {name: np.atleast_1d(np.asarray(value)) for name, value in figures.items()}
        running = _running_lanes(lanes)
        if not running.any():  # all were stopped early: like lab.fit, show no more epochs
            return
        row = _summarize(lanes, running)
        shown = _shown_figures(row)
        # The names of the figures are known with the first call.
        if table is None:
            display.start()
            settings = {"runs": len(running)}
            log.begin(RunInfo(0, tuple(row), settings))
            table = Table(list(shown), display.columns, marks=False)
            display.print(table.head())
        epoch += 1
        display.print(table.row(epoch, shown, stopwatch.seconds()))
        display.update(epoch, {})
        # Lanes that were stopped early stay at their last step.
        last_step = np.atleast_1d(np.asarray(step)).max(keepdims=True)
        columns = {name: np.array([value]) for name, value in row.items()}
        log.write(last_step, columns)

    return report


def _running_lanes(lanes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return which lanes were not stopped early, (lanes,)."""
    first = next(iter(lanes.values()))
    none_over = np.zeros(first.shape, bool)
    return ~lanes.get(OVER, none_over)


def _summarize(lanes: Mapping[str, np.ndarray], running: np.ndarray) -> dict[str, float]:
    """Summarize the figures of the lanes that are still running."""
    numbers = {}
    for name, values in lanes.items():
        if name not in NOT_SUMMARIZED and values.ndim == 1:
            numbers[name] = values[running]
    stopped = (~running).sum()
    return summarize_runs(numbers) | {"stopped": float(stopped)}


def _shown_figures(row: Mapping[str, float]) -> dict[str, float]:
    """Select the figures of the table: the loss that decides the best run, and the counts."""
    loss = VALID_LOSS if f"{VALID_LOSS}_best" in row else LOSS
    shown = {name: row[name] for name in (f"{loss}_best", f"{loss}_median")}
    # Counts are shown as integers.
    for name in ("diverged", "stopped"):
        shown[name] = int(row[name])
    return shown
