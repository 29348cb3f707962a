"""Trials: the results of a search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.search import statistics
from fnn.search.columns import NO_VALUE, labeled, option_labels, positions, value_label
from fnn.search.evaluation import Evaluation, evaluate_kept
from fnn.search.score import Score
from fnn.search.space import Space
from fnn.search.statistics import BestOfN, Importance
from fnn.search.verdicts import Boundary, find_boundary, find_importance
from fnn.train.evaluate import weights
from fnn.train.recipe import Recipe
from fnn.types import Data, TrainState, Weights


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
        histories: Figures of each epoch by name, (trials, seeds, epochs, ...), NaN where not
            trained. A confusion matrix has its axes at the end.
        epochs: Number of epochs that each trial was trained, (trials,).
        figure: The figure by which trials are compared.
        kept: Train states of the best trials, one for each seed, by the index of the trial.
    """

    space: Space
    recipes: Sequence[Recipe]
    hyperparameters: dict[str, np.ndarray]
    scores: np.ndarray
    histories: dict[str, np.ndarray]
    epochs: np.ndarray
    figure: Score
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
        return self.figure.order(self.mean_scores)

    @property
    def best(self) -> Trial:
        """The trial with the best mean score."""
        return self[int(self.ranked[0])]

    def __getitem__(self, index: int) -> Trial:
        """Return one trial.

        Args:
            index: Its number in the search.
        """
        if isinstance(index, slice):
            advice = "use [trials[i] for i in ...]"
            raise ConfigError(
                "trials index",
                "one int",
                checks.show(index),
                advice,
            )
        if not -len(self) <= index < len(self):
            # An iteration over the trials ends by it.
            raise IndexError(index)
        # A negative index counts from the end.
        index = range(len(self))[index]
        values = {path: _plain(column[index]) for path, column in self.hyperparameters.items()}
        score = float(self.mean_scores[index])
        return Trial(index, self.recipes[index], values, score, self.kept.get(index, ()))

    @property
    def deviations(self) -> np.ndarray:
        """The standard deviation of the score of each trial over seeds, (trials,); NaN for one."""
        count, seeds = self.scores.shape
        return self.scores.std(1, ddof=1) if seeds > 1 else np.full(count, np.nan)

    @property
    def seed_deviation(self) -> float:
        """The standard deviation over seeds, pooled over the better half of the trials.

        It is NaN for one seed. Worse trials are left out, since their deviations are often larger.
        """
        better = self.ranked[: max(1, len(self) // 2)]
        return statistics.seed_deviation(self.scores[better])

    @property
    def is_diverged(self) -> np.ndarray:
        """Whether the score of a trial is not finite for any of its seeds, (trials,)."""
        return ~np.isfinite(self.mean_scores)

    def best_of_n(self, *, confidence: float = 0.9) -> BestOfN:
        """Return the expected best score of a search of n trials, for each n up to all trials.

        The mean is unbiased [Dodge et al. 2019, arXiv:1909.03004]. The band holds the best score of
        another search of n trials with the given confidence; see `statistics.best_of_n`. Diverged
        trials count as the worst finite score.

        Args:
            confidence: Of the band.

        Returns:
            `n`, `mean`, `low` and `high`, each (trials,), in the units of the score.
        """
        found = statistics.best_of_n(self._costs, _expect_confidence(confidence))
        if self.figure.sign > 0:
            return found
        # The costs are negated scores, so that the ends change places.
        return BestOfN(found.n, -found.mean, -found.high, -found.low)

    def ties(self, *, confidence: float = 0.95) -> np.ndarray:
        """Return the trials that are not significantly worse than the best one, from the best on.

        Differences to the best trial are paired by seed, since all trials have the same keys. A
        trial is worse if the t-interval of its differences excludes 0, at the level of all
        comparisons together; see `statistics.ties`. The trial that is truly the best is among the
        ties with about this confidence.

        Args:
            confidence: Of all comparisons together.

        Returns:
            Indices of trials.

        Raises:
            ConfigError: There is only one seed, which has no differences to compare.
        """
        if self.scores.shape[1] < 2:
            advice = "search with seeds=3 or more"
            raise ConfigError(
                "ties",
                "trials of several seeds",
                "1 seed",
                advice,
            )
        is_tie = statistics.ties(self._seed_costs, _expect_confidence(confidence))
        return self.ranked[is_tie[self.ranked]]

    def boundaries(self) -> dict[str, Boundary]:
        """Return for each hyperparameter whether the best trials are at an edge of its interval.

        The best fifth of the trials must be significantly farther on one side than the others, and
        they must reach the edge; see `statistics.edge_test`. An optimum in the outer fifth of the
        interval may be reported too, since it is near the edge. A hyperparameter without influence
        is reported in 1 % of searches. At least 10 trials are necessary. Normal distributions and
        options without an order have no edges. The test assumes values that were chosen without
        knowledge of scores, as in random search and grids.
        """
        return {
            path: find_boundary(self.space.distributions[path], *self._evidence(path))
            for path in self.hyperparameters
        }

    def importance(self, *, confidence: float = 0.95) -> dict[str, Importance]:
        """Return the share of the variance of the scores that each hyperparameter explains alone.

        Scores are replaced by their ranks, of which diverged trials share the last one. Noise and
        interactions are in no share; see `statistics.importance`. A hyperparameter of an option is
        judged by the trials of this option. The share is NaN if they are too few.

        Args:
            confidence: Of the interval of each share.

        Returns:
            By path: `share`, `low` and `high`, from 0 to 1.
        """
        _expect_confidence(confidence)
        return {
            path: find_importance(self.space.distributions[path], *self._evidence(path), confidence)
            for path in self.hyperparameters
        }

    def evaluate(
        self, data: Data, *, valid: Data | None = None, batch_size: int = 256
    ) -> Evaluation:
        """Return the scores of the kept trials on other data, with the bias of the selection.

        Args:
            data: (inputs, targets) that were not used in the search, such as a test set.
            valid: The validation data of the search. For an accuracy p over n examples, its error
                p (1 - p) / (n - 1) is then part of the weights, in addition to that over seeds.
            batch_size: Examples that pass through the network at once.

        Raises:
            ConfigError: No trial was kept.
            FnnError: The data does not fit the recipe.
        """
        return evaluate_kept(self, self._kept_indices("trials.evaluate"), data, valid, batch_size)

    def networks(self, count: int | None = None) -> tuple[list[Recipe], list[Weights]]:
        """Return the recipes and the weights of the best kept trials, as an ensemble takes them.

            members = ensemble.collect(*trials.networks(3))

        Args:
            count: Number of trials; None for all that are kept.

        Returns:
            Lists of the same length, from the best trial on, one after another for each seed. The
            weights are those of inference: with the average of the parameters, if the optimizer
            keeps one.

        Raises:
            ConfigError: Fewer trials were kept.
        """
        kept = self._kept_indices("trials.networks")
        if count is not None and checks.whole("trials.networks count", count) > len(kept):
            expected = f"at most the {len(kept)} trials that are kept"
            raise ConfigError(
                "trials.networks count",
                expected,
                count,
                f"search with keep={count}",
            )
        recipes = []
        found = []
        for index in map(int, kept[:count]):
            for train_state in self.kept[index]:
                recipes.append(self.recipes[index])
                found.append(weights(self.recipes[index], train_state))
        return recipes, found

    def summary(self) -> str:
        """Return a table of the results: best, ties, diverged, and each hyperparameter.

        Hyperparameters have their best value, whether their interval should be widened, and their
        share of the variance of the scores with its interval. The most important one is first.
        """
        direction = "higher" if self.figure.sign < 0 else "lower"
        best = self.best
        spread = f" ± {self.deviations[best.index]:.2g}" if self.scores.shape[1] > 1 else ""
        lines = [
            f"{self._counts()}; {self.figure.name}, {direction} is better",
            f"best: trial {best.index}, {best.score:.4g}{spread}",
            f"ties: {self._ties_text()}",
            f"best of n trials: {self._best_of_n_text()}",
        ]
        boundaries = self.boundaries()
        found = self.importance()
        labels = self._labels(best.hyperparameters)
        rows = [("hyperparameter", "best", "interval", "importance")]
        # NaN, of too few trials, is last.
        for path in sorted(found, key=lambda path: -np.nan_to_num(found[path].share, nan=-1)):
            one = found[path]
            share = f"{one.share:.2f} [{one.low:.2f}, {one.high:.2f}]"
            is_known = np.isfinite(one.share)
            rows.append(
                (path, labels[path], str(boundaries[path]), share if is_known else "unknown")
            )
        # Each column is as wide as its longest cell.
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def table(self) -> dict[str, np.ndarray]:
        """Return the trials as columns (trials,) by name, as `pandas.DataFrame` takes them.

        The columns are trial, the hyperparameters by path, score, deviation of the score over seeds
        (NaN for a single seed), rank from 1, and epochs. Options that are not numbers have a label:
        their text, or the name of their maker, such as optim.sgd. A hyperparameter with the name of
        another column has the prefix `hyperparameters.`
        """
        count = len(self)
        # The inverse permutation of `ranked`, from 1.
        rank = np.empty(count, int)
        rank[self.ranked] = np.arange(1, count + 1)
        own = {
            "score": self.mean_scores,
            "deviation": self.deviations,
            "rank": rank,
            "epochs": self.epochs,
        }
        columns = {"trial": np.arange(count)}
        for path in self.hyperparameters:
            # A hyperparameter of a search.space can have any name, such as score.
            is_taken = path in own or path == "trial"
            columns[f"hyperparameters.{path}" if is_taken else path] = self.labeled(path)
        return columns | own

    def labeled(self, path: str) -> np.ndarray:
        """Return the values of a hyperparameter: numbers, or labels of options, (trials,).

        Args:
            path: Of the hyperparameter. Where it was not chosen, values are NaN or None.
        """
        return labeled(self.space.distributions[path], self.hyperparameters[path])

    def option_labels(self, path: str) -> list[str]:
        """Return a short text of each option of a choice, in its order.

        Args:
            path: Of the hyperparameter.
        """
        return option_labels(self.space.distributions[path].options or ())

    def positions(self, path: str) -> np.ndarray:
        """Return the values of a hyperparameter on the scale of its distribution, (trials,).

        They are probabilities of smaller values, from 0 to 1, for an integer at the middle of its
        probability. Options are evenly spaced, numbers in ascending order. NaN where it was not
        chosen.

        Args:
            path: Of the hyperparameter.
        """
        return positions(self.space.distributions[path], self.hyperparameters[path])

    def _kept_indices(self, where: str) -> np.ndarray:
        """Return the indices of the kept trials from the best on; ConfigError if there are none."""
        kept = np.array([index for index in self.ranked if int(index) in self.kept], int)
        if not kept.size:
            advice = "search with keep=1 or more"
            raise ConfigError(
                where,
                "trials with train states",
                "none",
                advice,
            )
        return kept

    @property
    def _costs(self) -> np.ndarray:
        """The mean scores, lower is better, (trials,)."""
        return self.figure.cost(self.mean_scores)

    @property
    def _seed_costs(self) -> np.ndarray:
        """The scores, lower is better, (trials, seeds); inf for trials that are no candidates."""
        return self.figure.cost(self.scores)

    def _evidence(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and costs of the trials that say something about a hyperparameter."""
        positions = self.positions(path)
        # Trials of other options say nothing.
        is_used = np.isfinite(positions)
        return positions[is_used], self._costs[is_used]

    # Texts.

    def _counts(self) -> str:
        seeds = self.scores.shape[1]
        diverged = int(self.is_diverged.sum())
        counts = f"{len(self)} trials" + (f" of {seeds} seeds" if seeds > 1 else "")
        return counts + (f", {diverged} diverged" if diverged else "")

    def _ties_text(self) -> str:
        if self.scores.shape[1] < 2:
            return "unknown with one seed; search with seeds=3 or more"
        ties = self.ties()
        if len(ties) == 1:
            return "none; the best trial is significantly better than all others"
        # Eight numbers fit a line.
        shown_ones = ", ".join(map(str, ties[:8])) + (", ..." if len(ties) > 8 else "")
        return f"{len(ties)} trials that seeds cannot distinguish: {shown_ones}"

    def _best_of_n_text(self) -> str:
        mean = self.best_of_n().mean
        # A few points of the curve, up to all trials.
        halves = [max(1, len(self) // divisor) for divisor in (16, 4, 2, 1)]
        return ", ".join(f"{mean[n - 1]:.4g} (n={n})" for n in sorted(set(halves)))

    def _labels(self, values: dict[str, Any]) -> dict[str, str]:
        """Return the values of a trial as texts."""
        distributions = self.space.distributions
        return {path: value_label(distributions[path], value) for path, value in values.items()}

    def __repr__(self) -> str:
        best = self.best
        labels = self._labels(best.hyperparameters)
        # Without those of options that were not chosen.
        used = {path: text for path, text in labels.items() if text != NO_VALUE}
        values = ", ".join(f"{path}={text}" for path, text in used.items())
        return f"{self._counts()}; best {self.figure.name} {best.score:.4g} by {values}"


def _plain(value: Any) -> Any:
    """Return a number of NumPy as one of Python, and NaN of a value that was not chosen as None."""
    if not isinstance(value, np.floating):
        return value
    return None if np.isnan(value) else float(value)


def _expect_confidence(confidence: float) -> float:
    return float(checks.number("confidence", confidence, "(0, 1)"))
