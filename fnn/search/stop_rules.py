"""Decisions to stop a trial early, as pure functions of recorded scores.

They serve loops of your own, such as trials on several machines. `search.halving` and
`search.hyperband` decide for whole rungs at once. In all functions a lower score is better, unless
mode="max".
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from fnn import checks
from fnn.errors import ShapeError
from fnn.train.early_stopping import MODES

MIN_PAIRS = 2  # of scores, for a test of their differences


def halving_stops(
    score: float,
    rung: Any,
    *,
    eta: int = 4,
    mode: str = "min",
) -> bool:
    """Asynchronous successive halving (ASHA): whether a trial stops at a rung.

    The score joins the n - 1 scores that other trials have recorded at this rung so far. It
    continues if it is among the best floor(n / η), ties included; for n < η, if it is the best so
    far. NaN stops [Li et al. 2020, arXiv:1810.05934].

    Args:
        score: Of the trial at the rung.
        rung: Scores of other trials at the rung, (n - 1,). NaN is left out.
        eta: Ratio η >= 2 of the trials of a rung to those of the next one.
        mode: "min" or "max".

    Raises:
        ConfigError: `eta` or `mode` is not one of its values.
        ShapeError: `rung` does not have one axis.
    """
    checks.whole("halving_stops eta", eta, 2)
    cost = _costs("halving_stops score", [score], mode)[0]
    if np.isnan(cost):
        return True
    others = _costs("halving_stops rung", rung, mode)
    # The scores that were recorded so far, with the own one.
    competing = np.sort(np.append(others[~np.isnan(others)], cost))
    # At least the best one continues, while fewer than eta are recorded.
    last_kept = max(len(competing) // eta, 1) - 1
    return bool(cost > competing[last_kept])


def halving_promotion(
    rungs: Sequence[Mapping[int, float]],
    promoted: Sequence[Collection[int]],
    *,
    eta: int = 4,
    mode: str = "min",
) -> tuple[int, int] | None:
    """Asynchronous successive halving (ASHA): the trial to continue next.

    From the highest rung down, it is the best trial that is among the best floor(n / η) of the n
    trials of its rung, and not yet promoted. Of equal scores the trial with the lower number is
    better. The last rung promotes none [Li et al. 2020, arXiv:1810.05934, Algorithm 2].

    Args:
        rungs: From the lowest to the last: scores by the number of the trial.
        promoted: Of each rung, the numbers of the trials that have been promoted.
        eta: Ratio η >= 2 of the trials of a rung to those of the next one.
        mode: "min" or "max".

    Returns:
        (index of the rung, number of the trial); None to begin another trial.

    Raises:
        ConfigError: `eta` or `mode` is not one of its values.
        ShapeError: `promoted` does not have one entry for each rung.
    """
    checks.whole("halving_promotion eta", eta, 2)
    if len(promoted) != len(rungs):
        raise ShapeError(
            "halving_promotion promoted",
            f"the trials promoted from each of the {len(rungs)} rungs",
            f"{len(promoted)} entries",
            "give an empty set for a rung that has promoted none",
        )
    # The last rung promotes none.
    for index in range(len(rungs) - 2, -1, -1):
        # Of equal scores the lower number is better.
        trials = sorted(rungs[index])
        scores = [rungs[index][trial] for trial in trials]
        costs = _costs("halving_promotion rungs", scores, mode)
        # Only the best floor(n / η) may continue.
        for place in np.argsort(costs, kind="stable")[: len(trials) // eta]:
            if trials[place] not in promoted[index] and not np.isnan(costs[place]):
                return index, trials[place]
    return None


def percentile_stops(
    scores: Any,
    finished: Any,
    *,
    percentile: float = 50.0,
    min_trials: int = 5,
    warmup: int = 0,
    mode: str = "min",
) -> bool:
    """Median rule: whether a trial's best score so far is worse than the median of finished trials.

    The median, or another percentile, is that of the scores of finished trials at the same epoch,
    without NaN. A trial whose scores are all NaN stops [Golovin et al. 2017, "Google Vizier"].

    Args:
        scores: Of the trial at each epoch until now, (t,).
        finished: Of finished trials, (trials, epochs), NaN where they have none.
        percentile: Share of the trials that continue, in [0, 100].
        min_trials: Number of finished trials below which no trial stops.
        warmup: Number of epochs in which no trial stops.
        mode: "min" or "max".

    Raises:
        ConfigError: A number is out of range, or `mode` is not one of its values.
        ShapeError: `scores` or `finished` has another number of axes.
    """
    checks.number("percentile_stops percentile", percentile, "[0, 100]")
    checks.whole("percentile_stops min_trials", min_trials)
    checks.whole("percentile_stops warmup", warmup, 0)
    costs = _costs("percentile_stops scores", scores, mode)
    others = _costs("percentile_stops finished", finished, mode, axes=2)
    epoch = len(costs)
    if epoch <= warmup or epoch == 0 or len(others) < min_trials:
        return False
    # The best score so far is compared, not the last one.
    known = costs[~np.isnan(costs)]
    if not known.size:
        return True
    # No finished trial was trained this long.
    if epoch > others.shape[1]:
        return False
    column = others[:, epoch - 1]
    column = column[~np.isnan(column)]
    # Equal scores continue.
    return bool(column.size and known.min() > np.percentile(column, percentile))


def wilcoxon_stops(
    scores: Any,
    best: Any,
    *,
    p: float = 0.1,
    mode: str = "min",
) -> bool:
    """Wilcoxon's signed-rank test over folds or seeds: whether a trial is worse than the best one.

    The test is one-sided, over the pairs of scores on the same fold or seed. Differences of zero
    are split between the ranks of both signs. The trial continues if there are fewer than two
    pairs, a score is not finite, or its mean is not worse than that of the best trial. A test after
    each fold stops more often than by chance p; choose p accordingly lower
    [Pocock 1977, Biometrika 64:191].

    Args:
        scores: Of the trial on the first folds or seeds, (k,).
        best: Of the best trial on all of them, (n,) with n >= k.
        p: Level of significance, in [0, 1].
        mode: "min" or "max".

    Raises:
        ConfigError: `p` or `mode` is not one of its values.
        ShapeError: `scores` or `best` does not have one axis, or the trial has more scores.
    """
    checks.number("wilcoxon_stops p", p, "[0, 1]")
    costs = _costs("wilcoxon_stops scores", scores, mode)
    others = _costs("wilcoxon_stops best", best, mode)
    if len(costs) > len(others):
        advice = "give the scores on the same folds or seeds, in the same order"
        raise ShapeError(
            "wilcoxon_stops scores",
            f"at most {len(others)} scores",
            f"{len(costs)}",
            advice,
        )
    is_finite = np.isfinite(costs).all() and np.isfinite(others).all()
    if len(costs) < MIN_PAIRS or not is_finite or costs.mean() <= others.mean():
        return False
    # On first use, since scipy.stats takes longer to import than fnn.
    from scipy.stats import wilcoxon

    # Pairs of the same fold or seed; the best trial may have further ones.
    differences = costs - others[: len(costs)]
    test = wilcoxon(differences, alternative="greater", zero_method="zsplit")
    return bool(test.pvalue < p)


def patience_stops(
    scores: Any, patience: int, *, min_delta: float = 0.0, mode: str = "min"
) -> bool:
    """Whether the last patience + 1 scores are all worse than the best one before them.

    NaN counts as worse than any number.

    Args:
        scores: Of the trial at each epoch until now, (t,).
        patience: Number of epochs, at least 0.
        min_delta: Difference up to which a score is not worse, in [0, inf).
        mode: "min" or "max".

    Raises:
        ConfigError: A number is out of range, or `mode` is not one of its values.
        ShapeError: `scores` does not have one axis.
    """
    checks.whole("patience_stops patience", patience, 0)
    checks.number("patience_stops min_delta", min_delta, "[0, inf)")
    costs = _costs("patience_stops scores", scores, mode)
    # There is no score before the last ones.
    if len(costs) <= patience + 1:
        return False
    costs = np.where(np.isnan(costs), np.inf, costs)
    # (t - patience - 1,), (patience + 1,)
    before, after = costs[: -patience - 1], costs[-patience - 1 :]
    return bool(before.min() + min_delta < after.min())


def _costs(
    where: str,
    scores: Any,
    mode: str,
    *,
    axes: int = 1,
) -> np.ndarray:
    """Return scores as float64 numbers of which lower ones are better."""
    # The first word is the name of the function.
    checks.choice(f"{where.split()[0]} mode", mode, MODES)
    array = np.asarray(scores, np.float64)
    if array.ndim != axes:
        expected = "(n,)" if axes == 1 else "(trials, epochs)"
        advice = "give the scores as a list" if axes == 1 else "stack the histories of trials"
        raise ShapeError(
            where,
            f"shape {expected}",
            array.shape,
            advice,
        )
    return -array if mode == "max" else array
