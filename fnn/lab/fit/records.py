"""The records of a run that logs get: figures of steps, with those of validation at epoch ends."""

from collections.abc import Iterator

import numpy as np

from fnn.lab.fit.history import Figures, HistoryBuffer, Row, select_scalars
from fnn.train.figures import FINITE, is_validation
from fnn.types import Instruments

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
