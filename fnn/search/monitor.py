"""The results of a search so far, and the monitor that receives them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from fnn.search.score import Score
from fnn.types import TrainState


@dataclass
class Collected:
    """The results of a search so far.

    Attributes:
        score: The figure by which trials are compared.
        scores: (trials, seeds), NaN for trials to come.
        done: Which trials are done, (trials,).
        columns: Values of each hyperparameter by path, (trials,).
        histories: Figures by name, (trials, seeds, epochs).
        kept: Train states of the best trials, one for each seed, by the index of the trial.
        widths: The number of lanes that was chosen for each group of trials.
        last: The indices of the trials of the last batch.
    """

    score: Score
    scores: np.ndarray
    done: np.ndarray
    columns: dict[str, np.ndarray]
    histories: dict[str, np.ndarray] = field(default_factory=dict)
    kept: dict[int, tuple[TrainState, ...]] = field(default_factory=dict)
    widths: dict[int, int] = field(default_factory=dict)
    last: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    def tree(self) -> dict[str, Any]:
        """Return the arrays, as a tree to save."""
        # Names in a checkpoint are texts.
        kept = {str(index): states for index, states in self.kept.items()}
        return {"scores": self.scores, "histories": self.histories, "kept": kept}

    def notes(self) -> dict[str, Any]:
        """Return the rest, as JSON values."""
        widths = {str(group): width for group, width in self.widths.items()}
        done = np.flatnonzero(self.done).tolist()
        figures = list(self.histories)
        return {"done": done, "kept": list(self.kept), "widths": widths, "figures": figures}

    def mean_scores(self) -> np.ndarray:
        """Return the mean scores of the trials that are done, (n,)."""
        return self.scores[self.done].mean(1)


class Monitor(Protocol):
    """A receiver of the results of a search so far, which can save them and stop the search."""

    def begin(
        self, search: Mapping[str, Any], total: int
    ) -> tuple[dict[str, Any], Callable[[Any], Any]] | None:
        """Return the notes of saved results and the function that restores them, or None.

        Args:
            search: Description of the search by JSON values. Saved results of another one raise.
            total: Number of trials.
        """

    def is_stopped(self) -> bool:
        """Return whether the search must end now, without the batch under way."""

    def report(self, collected: Collected) -> None:
        """Receive the results after a batch of trials."""
