"""Statistics over the folds of a cross-validation: corrected intervals and paired comparisons."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from fnn import checks
from fnn.errors import ConfigError
from fnn.search.score import Score
from fnn.train.figures import VALID

# Metrics of fnn that are shares, between 0 and 1.
SHARES = {"accuracy", "binary_accuracy", "precision", "recall", "f1", "mean_iou", "roc_auc"}

SIGNIFICANCE = 0.05  # p-value below which a comparison names the better recipe


class Interval(NamedTuple):
    """A confidence interval.

    Attributes:
        low: Its lower end.
        high: Its upper end.
    """

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """The results of a cross-validation.

    Attributes:
        scores: Of the validation part of each fold, (repeats, folds).
        histories: Loss of training (mean over the steps) and figures of validation of each epoch by
            name, (repeats, folds, epochs, ...); NaN after early stopping.
        predictions: Output of the network for each example, by the run that was not trained on it:
            arrays (repeats, n, ...), in the structure of the outputs.
        fold_of: Fold of each example, (repeats, n).
        train: Indices of the training examples, (repeats, folds, m).
        figure: The figure of the scores: its name and whether lower is better.
    """

    scores: np.ndarray
    histories: dict[str, np.ndarray]
    predictions: Any
    fold_of: np.ndarray
    train: np.ndarray
    figure: Score

    @property
    def mean(self) -> float:
        """The mean score over all folds; NaN if one of them diverged."""
        return float(self.scores.mean())

    @property
    def fold_deviation(self) -> float:
        """Standard deviation of the score over the folds of one repeat (root mean square)."""
        # The mean of variances is unbiased, that of deviations is not.
        return float(np.sqrt(self.scores.var(1, ddof=1).mean()))

    @property
    def repeat_deviation(self) -> float:
        """Standard deviation over repeats of their mean scores; NaN for a single repeat."""
        # (repeats, folds) -> (repeats,)
        means = self.scores.mean(1)
        return float(means.std(ddof=1)) if len(means) > 1 else float("nan")

    @property
    def standard_error(self) -> float:
        """The corrected standard error of the mean score; see `corrected_variance`."""
        return float(np.sqrt(corrected_variance(self.scores, self.ratio)))

    @property
    def ratio(self) -> float:
        """Number of validation examples over that of training examples, in the mean over folds."""
        folds = self.scores.shape[1]
        # Validation parts have n / k examples in the mean, and training parts have m.
        return self.fold_of.shape[1] / folds / self.train.shape[2]

    def interval(self, level: float = 0.95) -> Interval:
        """Return the corrected confidence interval of the mean score.

        That of a share, such as accuracy, is cut at 0 and 1.

        Args:
            level: Probability with which it covers the expected score, in (0, 1).
        """
        low, high = _interval(self.scores, self.ratio, level)
        if self.figure.name.removeprefix(VALID) in SHARES:
            # Cut and not moved: the values beyond cannot occur. NaN stays NaN.
            low, high = float(np.maximum(low, 0)), float(np.minimum(high, 1))
        return Interval(low, high)

    def left_out(
        self,
        repeat: int,
        fold: int,
    ) -> np.ndarray:
        """Return the examples that a fold neither trains nor validates on, ascending.

        Args:
            repeat: Index of the repeat.
            fold: Index of the fold.
        """
        # Examples that could have been trained on.
        others = np.flatnonzero(self.fold_of[repeat] != fold)
        return np.setdiff1d(others, self.train[repeat, fold])

    def __repr__(self) -> str:
        repeats, folds = self.scores.shape
        counts = f"{folds} folds" + (f" of {repeats} repeats" if repeats > 1 else "")
        diverged = int((~np.isfinite(self.scores)).sum())
        if diverged:
            counts += f", {diverged} of {self.scores.size} runs diverged"
        low, high = self.interval()
        return f"{self.figure.name} {self.mean:.4g} ({low:.4g} to {high:.4g}); {counts}"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Paired differences of two recipes over the same folds.

    Attributes:
        differences: Score of the first recipe minus that of the second, (repeats, folds).
        ratio: Number of validation examples over that of training examples.
        figure: The figure that is compared.
    """

    differences: np.ndarray
    ratio: float
    figure: Score

    @property
    def mean(self) -> float:
        """The mean difference."""
        return float(self.differences.mean())

    @property
    def standard_error(self) -> float:
        """The corrected standard error of the mean difference; see `corrected_variance`."""
        return float(np.sqrt(corrected_variance(self.differences, self.ratio)))

    @property
    def statistic(self) -> float:
        """Student's t: the mean over its standard error; 0 where all differences are 0."""
        # Equal scores in all folds would give 0 / 0.
        if self.mean == 0:
            return 0.0
        # Equal differences in all folds have no spread.
        error = self.standard_error
        return self.mean / error if error != 0 else float(np.copysign(np.inf, self.mean))

    @property
    def p_value(self) -> float:
        """Probability of such a |t| if both recipes are equally good (two-sided)."""
        # Both tails, with J - 1 degrees of freedom.
        return float(2 * stdtr(self.differences.size - 1, -abs(self.statistic)))

    @property
    def better(self) -> str:
        """The recipe with the better mean score: "first", "second" or "equal"."""
        if self.mean == 0:
            return "equal"
        # The sign is 1 if lower scores are better; then a negative difference favors the first.
        return "first" if self.figure.sign * self.mean < 0 else "second"

    def interval(self, level: float = 0.95) -> Interval:
        """Return the corrected confidence interval of the mean difference.

        Args:
            level: Probability with which it covers the expected difference, in (0, 1).
        """
        return _interval(self.differences, self.ratio, level)

    def __repr__(self) -> str:
        low, high = self.interval()
        verdict = "no significant difference"
        if self.p_value < SIGNIFICANCE:
            verdict = f"the {self.better} is better"
        return (
            f"difference of {self.figure.name} {self.mean:.4g} ({low:.4g} to {high:.4g}), "
            f"p = {self.p_value:.2g}: {verdict}"
        )


def compare(first: CrossValidation, second: CrossValidation) -> Comparison:
    """Compare two recipes over the same folds, by the corrected resampled t-test.

        first = search.cross_validate(key, recipe, data, epochs=20, batch_size=64)
        second = search.cross_validate(key, other, data, epochs=20, batch_size=64)
        print(search.compare(first, second))

    t = mean(d) / √((1/J + n_valid/n_train) s²) for the differences d of J runs, with J - 1 degrees
    of freedom. The correction accounts for training parts that overlap [Nadeau and Bengio 2003,
    Machine Learning 52:239; for repeats Bouckaert and Frank 2004].

    Args:
        first: From `cross_validate`.
        second: The same for another recipe, with the same key, data and folds.

    Raises:
        ConfigError: The folds or the figures differ.
    """
    for name, value in {"first": first, "second": second}.items():
        if not isinstance(value, CrossValidation):
            advice = "give the result of search.cross_validate"
            raise ConfigError(
                f"compare {name}",
                "a CrossValidation",
                checks.show(value),
                advice,
            )
    # Paired differences need the same parts, and the same examples left out.
    same_folds = np.array_equal(first.fold_of, second.fold_of)
    if not same_folds or not np.array_equal(first.train, second.train):
        advice = "give both the same key, data, folds, repeats, stratified and groups"
        raise ConfigError(
            "compare second",
            "the folds of the first",
            "others",
            advice,
        )
    if first.figure != second.figure:
        advice = "give both the same score="
        got = second.figure.name
        raise ConfigError(
            "compare second",
            f"the score {first.figure.name}",
            got,
            advice,
        )
    return Comparison(first.scores - second.scores, first.ratio, first.figure)


def corrected_variance(values: np.ndarray, ratio: float) -> float:
    """Variance of the mean over folds, (1/J + n_valid/n_train) s², of J values.

    s²/J would be too small, since the runs share training examples [Nadeau and Bengio 2003, eq. 9].

    Args:
        values: Scores or differences of all folds and repeats.
        ratio: n_valid/n_train.
    """
    # The unbiased variance s² of the J values.
    return float((1 / values.size + ratio) * values.var(ddof=1))


def _interval(
    values: np.ndarray,
    ratio: float,
    level: float,
) -> Interval:
    checks.number("interval level", level, "(0, 1)")
    # Student's t with J - 1 degrees of freedom.
    quantile = stdtrit(values.size - 1, (1 + level) / 2)
    width = quantile * np.sqrt(corrected_variance(values, ratio))
    return Interval(float(values.mean() - width), float(values.mean() + width))
