"""History of a run on the host while it is recorded."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn.train.figures import FLAGS, summarize_epoch
from fnn.types import History

Figures = dict[str, np.ndarray]
Row = dict[str, Any]  # a NumPy scalar per figure, in the dtype of the figure


class HistoryBuffer:
    """Records the figures of steps, several at a time, and those of epochs.

    Args:
        shapes: Figures of no step, (0, ...), and figures of validation, (...). They give names,
            shapes and dtypes.
        past: Figures of the steps and epochs before the run was resumed, by name.
        epoch_steps: Number of steps in `past` that belong to the current epoch.
    """

    def __init__(
        self,
        shapes: tuple[Figures, Figures],
        past: Mapping[str, np.ndarray],
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

    def add_steps(self, measured: Figures) -> None:
        """Record the figures of steps of one epoch, (steps, ...)."""
        self._steps.append(measured)
        self._current_epoch.append(select_scalars(measured))

    def end_epoch(self, validated: Figures) -> Row:
        """Record the figures of validation, (...), and return all figures of the epoch.

        Returns:
            The figures of the epoch's steps, reduced to one number each, and the figures of
            validation that are numbers.
        """
        # (...) -> (1, ...)
        self._epochs.append({name: value[None] for name, value in validated.items()})
        of_steps = _concatenate(self._current_epoch)
        self._current_epoch = []
        row: Row = {}
        for name, values in of_steps.items():
            row[name] = summarize_epoch(name, values)
        for name, value in validated.items():
            if value.ndim == 0:
                row[name] = value[()]
        return row

    def last(self, name: str, count: int) -> np.ndarray:
        """Return a figure of the steps of the last `count` additions."""
        parts = [figures[name] for figures in self._steps[-count:]]
        return np.concatenate(parts)

    def drop_last(self, steps: int) -> None:
        """Remove the last steps, all of which belong to the last addition."""
        figures = self._steps.pop()
        self._steps.append(
            {name: values[: len(values) - steps] for name, values in figures.items()}
        )

    def arrays(self) -> Figures:
        """Return each figure as one array, (steps, ...) or (epochs, ...)."""
        return _concatenate(self._steps) | _concatenate(self._epochs)

    def history(self) -> History:
        """Return the history in the form of `train.run`."""
        figures = {}
        for name, values in self.arrays().items():
            figures[name] = jnp.asarray(values)
        return History(figures)


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
