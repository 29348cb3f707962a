"""What a run has recorded so far, on the host."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from fnn.train.figures import FLAGS, of_epoch
from fnn.types import History

Figures = dict[str, np.ndarray]
Row = dict[str, np.number]  # one number each, in its own dtype


class HistoryBuffer:
    """The figures of each step, (steps,), stretch by stretch, and those of each epoch.

    Begun with the figures of no step and of one epoch, which tell their names and shapes; and, where a run is gone on
    with, with its past, of which so many steps are of the epoch under way.
    """

    def __init__(self, shapes: tuple[Figures, Figures], past: Mapping[str, np.ndarray], taken: int):
        empty = {
            name: np.empty((0, *value.shape), value.dtype) for name, value in shapes[1].items()
        }
        self.stretches: list[Figures] = [
            {name: past.get(name, value) for name, value in shapes[0].items()}
        ]
        self.epochs: list[Figures] = [
            {name: past.get(name, value) for name, value in empty.items()}
        ]
        self.under_way: list[Figures] = [
            {
                name: values[len(values) - taken :]
                for name, values in scalars(self.stretches[0]).items()
            }
        ]

    def add(self, measured: Figures) -> None:
        """Steps that were done."""
        self.stretches.append(measured)
        self.under_way.append(scalars(measured))

    def end_epoch(self, validated: Figures) -> Row:
        """The means over the epoch that is over, its last rate, and its figures of validation that are numbers."""
        self.epochs.append({name: value[None] for name, value in validated.items()})
        joined = _joined(self.under_way)
        self.under_way = []
        row = {name: of_epoch(name, values) for name, values in joined.items()}
        return row | {name: value[()] for name, value in validated.items() if value.ndim == 0}

    def recent(self, name: str, stretches: int) -> np.ndarray:
        """A figure of the steps of the last stretches."""
        return np.concatenate([figures[name] for figures in self.stretches[-stretches:]])

    def cut(self, steps: int) -> None:
        """Forget the last steps."""
        last = self.stretches.pop()
        self.stretches.append(
            {name: values[: len(values) - steps] for name, values in last.items()}
        )

    def arrays(self) -> Figures:
        """All figures, each as one array, steps or epochs first."""
        return _joined(self.stretches) | _joined(self.epochs)

    def history(self) -> History:
        """What `train.run` gives."""
        return History({name: jnp.asarray(values) for name, values in self.arrays().items()})


def _joined(parts: list[Figures]) -> Figures:
    return {name: np.concatenate([figures[name] for figures in parts]) for name in parts[0]}


def scalars(measured: Figures) -> Figures:
    """The figures of steps, less the flags and what is no single number."""
    return {
        name: values for name, values in measured.items() if name not in FLAGS and values.ndim == 1
    }
