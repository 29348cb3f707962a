"""Scores of the best trials of a search on data that was not used for any choice."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fnn.search import statistics
from fnn.train.evaluate import evaluate
from fnn.train.figures import VALID, validation_name
from fnn.types import Data

if TYPE_CHECKING:
    from fnn.search.trials import Trials


class Evaluation(NamedTuple):
    """Scores of the kept trials on other data, such as a test set.

    The best trial was chosen by its validation score, which is therefore optimistic. Its score on
    data that was not used for any choice is not. The best of the test scores would be optimistic
    again.

    Attributes:
        trials: The indices of the kept trials, from the best validation score to the worst, (k,).
        searched: Their scores in the search, (k,).
        scores: Their mean scores over seeds on the data, (k,).
        deviations: Standard deviations of these over seeds, (k,); NaN for one seed.
        weights: Probability that each of them is truly the best, (k,); NaN if the error of the
            validation scores is not known.
        weighted: The mean of the scores with these weights: the estimate of the search as a whole
            [Bergstra and Bengio 2012, JMLR 13:281, §2.1].
        bias: By how much the best trial scored better in the search than on the data.
        name: Name of the figure.
        total: Number of trials of the search.
    """

    trials: np.ndarray
    searched: np.ndarray
    scores: np.ndarray
    deviations: np.ndarray
    weights: np.ndarray
    weighted: float
    bias: float
    name: str
    total: int

    @property
    def best(self) -> float:
        """The score on the data of the trial with the best validation score."""
        return float(self.scores[0])

    def __str__(self) -> str:
        # One seed has no deviation.
        spread = "" if np.isnan(self.deviations[0]) else f" ± {self.deviations[0]:.2g}"
        lines = [
            f"{self.name} {self.best:.4g}{spread} of trial {self.trials[0]}",
            f"in the search {self.searched[0]:.4g}, the best of {self.total} trials: "
            f"{_optimism(self.bias)}",
        ]
        # It is NaN if the error of the validation scores is not known.
        if np.isfinite(self.weighted):
            lines.append(
                f"weighted {self.weighted:.4g}, over {len(self.trials)} kept trials by their "
                "probability of being the best"
            )
        return "\n".join(lines)


def evaluate_kept(
    trials: "Trials", kept: np.ndarray, data: Data, valid: Data | None, batch_size: int
) -> Evaluation:
    """Return the scores of the kept trials on other data, as `Trials.evaluate` does.

    Args:
        trials: The results of a search.
        kept: The indices of the kept trials from the best on, (k,).
        data: (inputs, targets) that were not used in the search.
        valid: The validation data of the search, or None.
        batch_size: Examples that pass through the network at once.
    """
    # The figures of train.evaluate have no prefix of validation.
    name = trials.figure.name.removeprefix(VALID)
    # (kept, seeds)
    scores = np.empty((len(kept), trials.scores.shape[1]))
    for row, index in enumerate(map(int, kept)):
        for column, train_state in enumerate(trials.kept[index]):
            figures = evaluate(trials.recipes[index], train_state, data, batch_size=batch_size)
            scores[row, column] = figures[name]
    examples = None if valid is None else len(valid[1])
    shares = _weights(trials, kept, examples)
    # (kept, seeds) -> (kept,)
    mean = scores.mean(1)
    deviations = scores.std(1, ddof=1) if scores.shape[1] > 1 else np.full(len(kept), np.nan)
    return Evaluation(
        trials=kept,
        searched=trials.mean_scores[kept],
        scores=mean,
        deviations=deviations,
        weights=shares,
        weighted=float(shares @ mean),
        # Positive if the search was too optimistic, for both directions of the figure.
        bias=float(trials.figure.sign * (mean[0] - trials.mean_scores[kept[0]])),
        name=name,
        total=len(trials),
    )


def _weights(trials: "Trials", kept: np.ndarray, examples: int | None) -> np.ndarray:
    """Return the probability that each kept trial is the best; NaN without a known error."""
    # Of the mean score of each kept trial.
    variance = np.zeros(len(kept))
    seeds = trials.scores.shape[1]
    scores = trials.mean_scores[kept]
    if seeds > 1:
        # The variance of a mean over seeds.
        variance += statistics.seed_deviation(trials.scores[kept]) ** 2 / seeds
    if examples is not None and examples > 1 and trials.figure.name == validation_name("accuracy"):
        # Binomial, of a finite validation set.
        variance += scores * (1 - scores) / (examples - 1)
    elif seeds == 1:
        return np.full(len(kept), np.nan)
    # A diverged trial is never the best.
    is_finite = np.isfinite(scores)
    weights = np.zeros(len(kept))
    costs = trials.figure.cost(scores[is_finite])
    deviations = np.sqrt(variance[is_finite])
    weights[is_finite] = statistics.probability_of_best(costs, deviations)
    return weights


def _optimism(bias: float) -> str:
    return f"optimistic by {bias:.2g}" if bias > 0 else f"not optimistic ({bias:.2g})"
