"""History of a run on the host while it is recorded."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.train.figures import FINITE, FLAGS, summarize_epoch
from fnn.types import History

Figures = dict[str, np.ndarray]
Row = dict[str, Any]  # a NumPy scalar per figure, in the dtype of the figure


class HistoryBuffer:
    """Records the figures of steps, several at a time, and those of epochs.

    Args:
        shapes: Figures of no step, (0, ...), and figures of validation, (...). They give names,
            shapes and dtypes.
        past: Figures of the steps and epochs before the run was resumed, by name.
        epoch_ends: Step after which each epoch in `past` ended.
        step: Number of steps done before.
        epoch_steps: Number of steps in `past` that belong to the current epoch.
    """

    def __init__(
        self,
        shapes: tuple[Figures, Figures],
        past: Mapping[str, np.ndarray],
        epoch_ends: Sequence[int],
        step: int,
        epoch_steps: int,
    ):
        step_shapes, epoch_shapes = shapes
        past_steps = {}
        for name, empty in step_shapes.items():
            past_steps[name] = past.get(name, empty)
        past_epochs = {}
        for name, value in epoch_shapes.items():
            empty = np.empty((0, *value.shape), value.dtype)
            past_epochs[name] = past.get(name, empty)
        current_epoch = {}
        for name, values in select_scalars(past_steps).items():
            # Not [-epoch_steps:], which is all of them if the number is 0.
            first = len(values) - epoch_steps
            current_epoch[name] = values[first:]
        # Parts are joined when they are needed: to append to an array would copy it each time.
        self._steps: list[Figures] = [past_steps]
        self._epochs: list[Figures] = [past_epochs]
        self._current_epoch: list[Figures] = [current_epoch]
        self._step = step
        # The history of a train state begins within the run.
        self._first_step = step - len(past_steps[FINITE])
        self._epoch_ends = list(epoch_ends)

    def add_steps(self, measured: Figures) -> None:
        """Record the figures of steps of one epoch, (steps, ...)."""
        self._steps.append(measured)
        self._step += len(measured[FINITE])
        self._current_epoch.append(select_scalars(measured))

    def end_epoch(self, validated: Figures) -> Row:
        """Record the figures of validation, (...), and return all figures of the epoch.

        Returns:
            The figures of the epoch's steps, reduced to one number each, and the figures of
            validation that are numbers.
        """
        self._epoch_ends.append(self._step)
        # (...) -> (1, ...)
        self._epochs.append({name: value[None] for name, value in validated.items()})
        of_steps = _concatenate(self._current_epoch)
        self._current_epoch = []
        return _make_row(of_steps, validated)

    def epochs_after(self, after: int) -> Iterator[tuple[int, Figures, Row | None]]:
        """Yield the steps that are recorded, from the epoch in which step `after` lies.

        Yields:
            (step, figures of steps, figures of the epoch): the number of the last step, its epoch's
            figures (steps, ...), and a row as of `end_epoch`, or None for the current epoch.
        """
        measured = _concatenate(self._steps)
        validated = _concatenate(self._epochs)
        first_step = self._first_step
        begin = first_step
        for epoch, end in enumerate(self._epoch_ends):
            if end > after:
                rows = slice(begin - first_step, end - first_step)
                steps = {name: values[rows] for name, values in measured.items()}
                figures = {name: values[epoch] for name, values in validated.items()}
                yield end, steps, _make_row(select_scalars(steps), figures)
            begin = end
        if begin < self._step:
            steps = {name: values[begin - first_step :] for name, values in measured.items()}
            yield self._step, steps, None

    def last(self, name: str, count: int) -> np.ndarray:
        """Return a figure of the steps of the last `count` additions."""
        parts = [figures[name] for figures in self._steps[-count:]]
        return np.concatenate(parts)

    @property
    def steps(self) -> int:
        """Number of steps that are recorded."""
        return self._step - self._first_step

    def select(self, names: Sequence[str]) -> Figures:
        """Return those of some figures that are recorded, as of `arrays`."""
        selected = {}
        for parts in (self._steps, self._epochs):
            for name in names:
                if name in parts[0]:
                    selected[name] = np.concatenate([figures[name] for figures in parts])
        return selected

    def drop_last(self, steps: int) -> None:
        """Remove the last steps, all of which belong to the last addition."""
        figures = self._steps.pop()
        self._step -= steps
        self._steps.append(
            {name: values[: len(values) - steps] for name, values in figures.items()}
        )

    def arrays(self) -> Figures:
        """Return each figure as one array, (steps, ...) or (epochs, ...)."""
        return _concatenate(self._steps) | _concatenate(self._epochs)

    def epoch_ends(self) -> np.ndarray:
        """Return the step after which each epoch ended, (epochs,)."""
        return np.array(self._epoch_ends, np.int64)

    def history(self, findings: Sequence[Any]) -> History:
        """Return the history in the form of `train.run`, with the findings on it."""
        figures = {}
        with trees.allow_transfers():
            for name, values in self.arrays().items():
                figures[name] = jnp.asarray(values)
        return History(figures, findings)


def _make_row(of_steps: Figures, validated: Figures) -> Row:
    """Reduce the figures of an epoch's steps to one number each, and add those of validation."""
    row: Row = {}
    for name, values in of_steps.items():
        row[name] = summarize_epoch(name, values)
    for name, value in validated.items():
        if value.ndim == 0:
            row[name] = value[()]
    return row


def select_scalars(measured: Figures) -> Figures:
    """Select the figures of steps that are one number per step, without flags."""
    selected = {}
    for name, values in measured.items():
        if name not in FLAGS and values.ndim == 1:
            selected[name] = values
    return selected


def _concatenate(parts: list[Figures]) -> Figures:
    joined = {}
    for name in parts[0]:
        arrays = [figures[name] for figures in parts]
        joined[name] = np.concatenate(arrays)
    return joined
