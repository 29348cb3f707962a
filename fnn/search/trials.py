"""Trials: the results of a search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fnn.search.score import Score
from fnn.search.space import Space
from fnn.train.recipe import Recipe
from fnn.types import TrainState


@dataclass(frozen=True, eq=False)
class Trial:
    """One trial.

    Attributes:
        index: Its number in the search.
        recipe: Its recipe, which prints as the code that trains it again.
        hyperparameters: Its values by path; None for those of options that were not chosen.
        score: The mean score over seeds.
        train_states: One for each seed; none unless it is among the best ones that are kept.
    """

    index: int
    recipe: Recipe
    hyperparameters: dict[str, Any]
    score: float
    train_states: tuple[TrainState, ...]


@dataclass(frozen=True, eq=False)
class Trials:
    """The results of a search.

    Attributes:
        space: The space that was searched.
        recipes: The recipe of each trial.
        hyperparameters: The values (trials,) of each hyperparameter by path: floats where all are
            numbers, NaN for those of options that were not chosen; else objects.
        scores: (trials, seeds), in the units of the figure.
        histories: Figures of each epoch by name, (trials, seeds, epochs), NaN where not trained.
        epochs: Number of epochs that each trial was trained, (trials,).
        score: The figure by which trials are compared.
        kept: Train states of the best trials, one for each seed, by the index of the trial.
    """

    space: Space
    recipes: Sequence[Recipe]
    hyperparameters: dict[str, np.ndarray]
    scores: np.ndarray
    histories: dict[str, np.ndarray]
    epochs: np.ndarray
    score: Score
    kept: dict[int, tuple[TrainState, ...]]

    def __len__(self) -> int:
        return len(self.recipes)

    @property
    def mean_scores(self) -> np.ndarray:
        """The mean score of each trial over seeds, (trials,); NaN if one of the seeds diverged."""
        return self.scores.mean(1)

    @property
    def ranked(self) -> np.ndarray:
        """The indices of the trials from the best to the worst, (trials,); diverged ones last."""
        return self.score.order(self.mean_scores)

    @property
    def best(self) -> Trial:
        """The trial with the best mean score."""
        return self[int(self.ranked[0])]

    def __getitem__(self, index: int) -> Trial:
        """Return one trial.

        Args:
            index: Its number in the search.
        """
        if not -len(self) <= index < len(self):
            # An iteration over the trials ends by it.
            raise IndexError(index)
        index = range(len(self))[index]
        values = {path: _plain(column[index]) for path, column in self.hyperparameters.items()}
        score = float(self.mean_scores[index])
        return Trial(index, self.recipes[index], values, score, self.kept.get(index, ()))

    def table(self) -> dict[str, np.ndarray]:
        """Return the trials as columns (trials,) by name, as `pandas.DataFrame` takes them.

        The columns are trial, the hyperparameters by path, score, deviation of the score over seeds
        (NaN for a single seed), rank from 1, and epochs.
        """
        count = len(self)
        rank = np.empty(count, int)
        rank[self.ranked] = np.arange(1, count + 1)
        seeds = self.scores.shape[1]
        deviation = self.scores.std(1, ddof=1) if seeds > 1 else np.full(count, np.nan)
        return {
            "trial": np.arange(count),
            **self.hyperparameters,
            "score": self.mean_scores,
            "deviation": deviation,
            "rank": rank,
            "epochs": self.epochs,
        }

    def __repr__(self) -> str:
        best = self.best
        values = ", ".join(f"{path}={_text(value)}" for path, value in best.hyperparameters.items())
        diverged = int((~np.isfinite(self.mean_scores)).sum())
        seeds = self.scores.shape[1]
        counts = f"{len(self)} trials" + (f" of {seeds} seeds" if seeds > 1 else "")
        ending = f", {diverged} diverged" if diverged else ""
        return f"{counts}{ending}; best {self.score.name} {best.score:.4g} by {values}"


def hyperparameter_columns(space: Space, values: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return the values of trials as one array (trials,) for each hyperparameter, by path.

    Args:
        space: The space.
        values: By path, of each trial; None for those of options that were not chosen.
    """
    columns = {}
    for path, distribution in space.distributions.items():
        column = [one[path] for one in values]
        if distribution.is_number:
            numbers = [np.nan if value is None else value for value in column]
            columns[path] = np.array(numbers, float)
        else:
            # Not np.array(column), which would look into values that are sequences.
            columns[path] = np.empty(len(column), object)
            columns[path][:] = column
    return columns


def _plain(value: Any) -> Any:
    """Return a number of NumPy as one of Python, and NaN of a value that was not chosen as None."""
    if not isinstance(value, np.floating):
        return value
    return None if np.isnan(value) else float(value)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
