"""The results of successive halving and Hyperband."""

from dataclasses import dataclass

import numpy as np

from fnn.errors import ConfigError
from fnn.search.brackets import Bracket
from fnn.search.statistics import BestOfN
from fnn.search.trials import Trials


@dataclass(frozen=True, eq=False, repr=False)
class HalvingTrials(Trials):
    """The results of successive halving or Hyperband.

    The score of a trial is that of its last epoch. Trials that were trained longer rank above those
    that were stopped earlier, so the best trial is the best one of those trained to the end.
    Diverged trials rank last.

    Attributes:
        brackets: The plan.
        bracket: The index of the bracket of each trial, (trials,).
    """

    brackets: tuple[Bracket, ...]
    bracket: np.ndarray

    @property
    def ranked(self) -> np.ndarray:
        """The indices of the trials from the best to the worst, (trials,); diverged ones last."""
        return rank_trials(self.figure.cost(self.mean_scores), self.epochs)

    @property
    def total_epochs(self) -> int:
        """Number of epochs of all trials and seeds together."""
        # All seeds of a trial are trained for the same epochs.
        return int(self.epochs.sum()) * self.scores.shape[1]

    def best_of_n(self, *, confidence: float = 0.9) -> BestOfN:
        """Raise ConfigError: the scores of trials that were trained differently long are no sample.

        Args:
            confidence: As for `Trials.best_of_n`.
        """
        raise ConfigError(
            "best_of_n",
            "trials that were all trained to the end",
            "trials that were stopped at different epochs",
            "use the trials of search.random",
        )

    def _best_of_n_text(self) -> str:
        return "not defined, since trials were stopped at different epochs"

    # The scores of different epochs are not compared: a trial that was trained longer is better.

    @property
    def _costs(self) -> np.ndarray:
        # The statistics use the order of the costs alone, so that ranks serve as costs.
        positions = np.empty(len(self))
        positions[self.ranked] = np.arange(len(self))
        return np.where(self.is_diverged, np.inf, positions)

    @property
    def _seed_costs(self) -> np.ndarray:
        # A trial that was stopped cannot be the best one.
        is_candidate = self.epochs == self.epochs.max()
        # (trials, seeds)
        return np.where(is_candidate[:, None], super()._seed_costs, np.inf)

    def table(self) -> dict[str, np.ndarray]:
        """Return the columns of `Trials.table`, and the bracket of each trial."""
        return super().table() | {"bracket": self.bracket}


def rank_trials(costs: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Return the indices of trials from the best to the worst.

    Trials that were trained longer rank above others, and diverged ones last.

    Args:
        costs: (trials,), lower is better.
        epochs: Number of epochs of each, (trials,).
    """
    # The last key is the first one to sort by.
    return np.lexsort((costs, -epochs, ~np.isfinite(costs)))
