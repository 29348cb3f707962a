"""The records of a run that logs get: figures of steps, with those of validation at epoch ends."""

from collections.abc import Iterator

import jax
import numpy as np

from fnn import trees
from fnn.lab.fit.config import FitConfig
from fnn.lab.fit.history import Figures, HistoryBuffer, Row, select_scalars
from fnn.lab.fit.source import DataSource
from fnn.lab.logs.log import RunInfo
from fnn.train.devices import current_layout
from fnn.train.figures import FINITE, is_validation
from fnn.train.instrumentation import instrument_columns
from fnn.train.processes import spans_processes
from fnn.types import Instruments, TrainState

# Step numbers, (n,), and an array (n,) per figure, or (n, columns, ...) of instruments.
Record = tuple[np.ndarray, Figures]


def log_records(
    measured: Figures,
    row: Row | None,
    step: int,
    log_every: int,
) -> Iterator[Record]:
    """Yield every log_every-th step, and the last step of an epoch with the validation figures.

    Args:
        measured: Figures of consecutive steps, (steps, ...).
        row: Figures of the epoch, if it ended with these steps.
        step: Number of steps done after them.
        log_every: Steps between two that are logged.
    """
    figures = select_scalars(measured)
    count = len(measured[FINITE])
    steps = np.arange(step - count, step) + 1
    is_logged = steps % log_every == 0
    if row is not None:
        is_logged[-1] = False  # logged below
    if is_logged.any():
        yield _select((steps, figures), is_logged)
    if row is not None:
        last = {name: values[-1:] for name, values in figures.items()}
        for name, value in row.items():
            if is_validation(name):
                last[name] = np.array([value])
        yield steps[-1:], last


def array_record(measured: Figures, instruments: Instruments | None, step: int) -> Record | None:
    """Return the arrays of those of some steps that the instruments measured, or None.

    Args:
        measured: Figures of consecutive steps, (steps, ...).
        instruments: Of the recipe, or None.
        step: Number of steps done after them.
    """
    if instruments is None:
        return None
    count = len(measured[FINITE])
    before = np.arange(step - count, step)  # number of steps before each
    is_measured = before % instruments.every == 0
    if not is_measured.any():
        return None
    arrays = {name: measured[name] for name in instruments.names}
    return _select((before + 1, arrays), is_measured)


def past_records(history: HistoryBuffer, after: int, log_every: int) -> Iterator[Record]:
    """Yield the records of the steps after `after`, as they were logged when the run did them."""
    for stop, measured, row in history.epochs_after(after):
        for record in log_records(measured, row, stop, log_every):
            steps, _ = record
            is_later = steps > after
            if is_later.any():
                yield _select(record, is_later)


def _select(record: Record, is_selected: np.ndarray) -> Record:
    """Return the steps of a record that are selected by booleans, (n,)."""
    steps, figures = record
    selected = {name: values[is_selected] for name, values in figures.items()}
    return steps[is_selected], selected


# The log of a run.


def log_before_failure(
    config: FitConfig, measured: Figures, done: int, step: int, failure: Exception
) -> None:
    """Log the steps before the one that failed. An error of the log is noted on the failure.

    Args:
        config: Of the run.
        measured: Figures of consecutive steps, (steps, ...).
        done: Number of those to log.
        step: Number of steps done after them.
        failure: The error that ended the run.
    """
    finite = {name: values[:done] for name, values in measured.items()}
    try:
        log_steps(config, finite, None, step)
    except Exception as error:
        failure.add_note(f"The log failed as well: {error}")


def log_steps(config: FitConfig, measured: Figures, row: Row | None, step: int) -> None:
    """Log consecutive steps, and the epoch that ended with them.

    Args:
        config: Of the run.
        measured: Figures of the steps, (steps, ...).
        row: Figures of the epoch, if one ended.
        step: Number of steps done after them.
    """
    for steps, figures in log_records(measured, row, step, config.log_every):
        config.log.write(steps, figures)
    arrays = array_record(measured, config.recipe.instruments, step)
    if arrays is not None:
        config.log.write_arrays(*arrays)


def run_info(
    config: FitConfig,
    source: DataSource,
    train_state: TrainState,
    shapes: tuple[Figures, Figures],
    resumes: bool,
    history: HistoryBuffer,
) -> RunInfo:
    """Describe the run for logs.

    Args:
        config: Of the run.
        source: Of the examples.
        train_state: At the beginning, or where the run is resumed.
        shapes: Of the figures of a step, and of validation.
        resumes: Whether the run continues an earlier one.
        history: Figures before.
    """
    of_steps, of_validation = shapes
    names = list(select_scalars(of_steps))
    names += [name for name, value in of_validation.items() if value.ndim == 0]

    def images() -> np.ndarray | None:
        # The first process alone logs, and the others do not compute these.
        if spans_processes(current_layout()):
            return None
        inputs = source.next_inputs(train_state)
        is_image = getattr(inputs, "ndim", 0) == 4
        return trees.read(inputs) if is_image else None

    return RunInfo(
        step=int(trees.read(train_state.step)),
        names=tuple(names),
        settings={
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(train_state.params)),
            "epochs": config.epochs,
            "batch_size": config.batch_size,
        },
        images=images,
        resumes=resumes,
        past=lambda after: past_records(history, after, config.log_every),
        columns=instrument_columns(config.recipe, train_state.params, config.data[0]),
    )
