"""Statistics of the trials of a search, as functions of arrays.

Trials are compared by costs: numbers of which lower ones are better, infinite for trials that
diverged; see `Score.cost`. All decisions depend on the order of the costs alone, except where
differences between seeds are compared. Hence they are the same for a loss and its logarithm.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

MIN_TRIALS = 10  # for a verdict about the boundary
TOP_SHARE = 0.2  # of the trials, which are the best ones
MIN_TOP = 4
OUTER_SHARE = 0.125  # of the trials, which are nearest to an edge
ENRICHED = 2  # times their share of all trials: the best ones reach the edge
FALSE_ALARMS = 0.01  # of a hyperparameter without influence, at both edges together
MAX_EXACT = 64  # trials, above which rank sums are nearly normal
DEGREE = 3  # of the polynomial of a hyperparameter that explains the score
HALVES = 400  # random halves of the trials
QUANTILES = 2048  # nodes of an integral over a normal distribution


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of values from 1, (n,); equal ones share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    # The last rank of each distinct value.
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


class BestOfN(NamedTuple):
    """The best score of a search of n trials.

    Attributes:
        n: Numbers of trials, (k,).
        mean: Expected best score, (k,).
        low: Lower end of the band, (k,).
        high: Upper end of the band, (k,).
    """

    n: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def best_of_n(costs: np.ndarray, confidence: float = 0.9) -> BestOfN:
    """Return the lowest cost of n trials, for n from 1 to the number N of trials.

    The mean is that over all subsets of n of the N trials, Σ c_i C(N - i, n - 1) / C(N, n) with
    costs in ascending order. It is unbiased. The mean over n draws with replacement is not
    [Dodge et al. 2019, arXiv:1909.03004; Tang et al. 2020, ACL].

    The band holds the lowest cost of another search of n trials with the given confidence. Its ends
    are the quantiles of n draws with replacement: P(min <= c_i) = 1 - (1 - i/N)^n. They are of
    draws with replacement because without it all searches of N trials would be the same one. For n
    above N / 4 the band is too narrow on the side of lower costs, which no trial has reached.

    Diverged trials count as the worst finite cost.

    Args:
        costs: (N,), of trials drawn independently; at least one is finite.
        confidence: Share of searches whose lowest cost is within the band.
    """
    count = len(costs)
    finite = np.isfinite(costs)
    costs = np.sort(np.where(finite, costs, costs[finite].max()))
    numbers = np.arange(1, count + 1)
    after = count - numbers  # number of worse trials
    mean = np.empty(count)
    for index, n in enumerate(numbers):
        # C(N - i - 1, n - 1) / C(N - i, n - 1), from one trial to the next worse one
        ratios = np.maximum(after[:-1] - n + 1, 0) / after[:-1]
        # C(N - 1, n - 1) / C(N, n) = n / N is the weight of the best trial.
        mean[index] = n / count * (np.cumprod([1, *ratios]) @ costs)
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    low, high = (costs[_lowest_rank(tail, numbers, count) - 1] for tail in tails)
    return BestOfN(
        numbers,
        mean,
        low,
        high,
    )


def _lowest_rank(
    probability: float,
    n: np.ndarray,
    count: int,
) -> np.ndarray:
    """Return the smallest i with 1 - (1 - i/count)^n >= probability."""
    # The solution i = N (1 - (1 - p)^(1/n)), without cancellation for small p.
    exact = count * -np.expm1(np.log1p(-probability) / n)
    # Rounding must not choose the next rank.
    return np.clip(np.ceil(exact - 1e-9), 1, count).astype(int)


def seed_deviation(scores: np.ndarray) -> float:
    """Return the standard deviation between seeds, pooled over trials; NaN for one seed.

    Args:
        scores: (trials, seeds). Trials that are not finite are left out.
    """
    finite = scores[np.isfinite(scores).all(1)]
    if scores.shape[1] < 2 or not len(finite):
        return np.nan
    return float(np.sqrt(finite.var(1, ddof=1).mean()))


def ties(costs: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """Return which trials are not significantly worse than the best one, (trials,).

    A trial is worse if the t-interval of the differences to the best, paired by seed, excludes 0.
    The intervals are those of N - 1 comparisons (Bonferroni): for normal differences, the trial
    that is truly the best is among the ties with about this confidence. Since a few seeds say
    little about a variance, that of each trial is averaged with those of the better half of the
    trials. Of two trials the test is the paired t-test.

    Args:
        costs: (trials, seeds) with 2 seeds or more, at least one trial finite.
        confidence: Of all comparisons together.
    """
    count, seeds = costs.shape
    is_finite = np.isfinite(costs).all(1)
    costs = np.where(is_finite[:, None], costs, np.inf)
    mean_costs = costs.mean(1)
    order = np.argsort(mean_costs, kind="stable")
    # (trials, seeds), paired by seed.
    differences = np.where(is_finite[:, None], costs, 0) - costs[order[0]]
    # The best trial is left out, since its differences are 0.
    better = order[1 : max(2, count // 2)]
    better = better[is_finite[better]]
    own = differences.var(1, ddof=1)
    variance = (own + own[better].sum()) / (1 + len(better))
    # All differences contain the noise of the best trial: half of the degrees of freedom count.
    freedom = (seeds - 1) * (1 + len(better)) / 2 if len(better) else seeds - 1
    # Two-sided, and divided among N - 1 comparisons.
    factor = stdtrit(freedom, 1 - (1 - confidence) / (2 * max(count - 1, 1)))
    error = np.sqrt(variance / seeds)
    return is_finite & (differences.mean(1) <= factor * error)


class EdgeTest(NamedTuple):
    """Whether the best trials are at an edge of an interval.

    Attributes:
        side: 1 if they are at the upper edge, -1 at the lower one, 0 at none; None if it is
            unknown.
        p_value: Probability of positions as far on one side, if the hyperparameter had no
            influence; NaN if it is unknown.
    """

    side: int | None
    p_value: float


def edge_test(positions: np.ndarray, costs: np.ndarray) -> EdgeTest:
    """Test whether the best trials are at an edge of the interval of a hyperparameter.

    The best fifth of the trials, 4 or more, are at an edge if

    1. their positions are significantly farther on that side than those of the other trials, by the
       rank sum test, with a probability of a false alarm of 1 % for both sides together;
    2. they reach the edge: among the eighth of the trials that are nearest to it, the share of best
       ones is at least twice that among all.

    An optimum in the outer fifth counts as at the edge, the more so the nearer it is. Of 64 trials
    of a parabola, an optimum at the position 0.7 is reported in 1 % of searches, at 0.8 in 30 %, at
    0.9 in nearly all.

    The test assumes that positions were chosen without knowledge of the costs.

    Args:
        positions: On the scale of the distribution, (trials,), from 0 to 1.
        costs: (trials,).
    """
    count = len(costs)
    if count < MIN_TRIALS:
        return EdgeTest(None, np.nan)
    # Equal costs are best together, so that the result does not depend on the order of the trials;
    # or not, if they are most of the trials, such as those that have not learned at all.
    threshold = np.sort(costs)[max(MIN_TOP, round(TOP_SHARE * count)) - 1]
    is_top = costs <= threshold
    if not np.isfinite(threshold) or is_top.mean() > 0.5:
        is_top = costs < threshold
    if is_top.sum() < 2:
        return EdgeTest(None, np.nan)
    tails = {side: _rank_sum_tail(side * positions, is_top) for side in (-1, 1)}
    side = min(tails, key=lambda one: tails[one])
    reaches = _outer_share(side * positions, is_top) >= ENRICHED * is_top.mean()
    is_edge = tails[side] <= FALSE_ALARMS / 2 and reaches
    return EdgeTest(side if is_edge else 0, min(1.0, 2 * tails[side]))


def _outer_share(positions: np.ndarray, is_top: np.ndarray) -> float:
    """Return the share of best trials among those at the highest positions."""
    outer = max(2, round(OUTER_SHARE * len(positions)))
    is_outer = positions >= np.sort(positions)[-outer]
    return float(is_top[is_outer].mean())


def _rank_sum_tail(positions: np.ndarray, is_top: np.ndarray) -> float:
    """Return the probability that as many random trials have as high a sum of ranks."""
    # Ranks of equal positions are halves.
    doubled = np.rint(2 * ranks(positions)).astype(int)
    found = doubled[is_top].sum()
    count, top = len(is_top), int(is_top.sum())
    if count > MAX_EXACT:
        # Mean and variance of a sum of ranks drawn without replacement.
        mean = top * doubled.mean()
        variance = top * (count - top) / (count - 1) * doubled.var()
        # The doubled sums are even without equal positions: half a step is 1.
        return float(ndtr(-(found - 1 - mean) / np.sqrt(variance))) if variance else 1.0
    # Number of subsets by size and sum.
    subsets = np.zeros((top + 1, np.sort(doubled)[-top:].sum() + 1))
    subsets[0, 0] = 1
    for rank in doubled:
        # A copy, since both sides are parts of one array.
        subsets[1:, rank:] += subsets[:-1, :-rank].copy()
    # Counts above 2^53 are rounded, which their ratio does not show.
    return float(subsets[top, found:].sum() / subsets[top].sum())


class Importance(NamedTuple):
    """Share of the variance of the ranks of the scores that a hyperparameter explains.

    Attributes:
        share: Of 1; NaN if there are too few trials.
        low: Lower end of its interval.
        high: Upper end of its interval.
    """

    share: float
    low: float
    high: float


def ordered_features(positions: np.ndarray) -> np.ndarray:
    """Return the features (trials, features) of an ordered hyperparameter: Legendre polynomials.

    Args:
        positions: (trials,), from 0 to 1.
    """
    degree = min(DEGREE, len(np.unique(positions)) - 1)
    return np.polynomial.legendre.legvander(2 * positions - 1, degree)


def categorical_features(options: np.ndarray) -> np.ndarray:
    """Return the features (trials, features) of a categorical hyperparameter: one of each option.

    Args:
        options: Index of the option, (trials,).
    """
    return (options[:, None] == np.unique(options)).astype(float)


def importance(
    features: np.ndarray,
    costs: np.ndarray,
    confidence: float = 0.95,
) -> Importance:
    """Return the share of the variance of the ranks that a hyperparameter explains alone.

    It is the main effect of a functional analysis of variance [Hutter et al. 2014, ICML], by a
    regression of the ranks on the features. R² is adjusted for the number of features, so that
    it is about 0, not above, for a hyperparameter without influence. Diverged trials share the
    worst rank. Interactions and noise are in no share: shares sum up to less than 1.

    The interval is that of random halves of the trials: their differences to the share of all
    trials are distributed as its differences to the true one. Unlike a bootstrap, no trial is
    in a sample twice, which would look like an explanation.

    Args:
        features: (trials, features), whose span contains the constant.
        costs: (trials,).
        confidence: Of the interval.
    """
    # The same halves for trials in another order.
    order = np.lexsort([*features.T, costs])
    features = features[order]
    targets = ranks(costs[order])
    share = _adjusted_share(features, targets)
    count = len(costs)
    # Half of the trials must be enough for a regression.
    if np.isnan(share) or count // 2 < features.shape[1] + 2:
        return Importance(np.nan, np.nan, np.nan)
    draws = np.random.default_rng(0)
    halves = [draws.permutation(count)[: count // 2] for _ in range(HALVES)]
    # A share of n / 2 trials varies around that of all n by σ²/(n/2) - σ²/n = σ²/n.
    shares = [_adjusted_share(features[half], ranks(targets[half])) for half in halves]
    tails = [(1 + confidence) / 2, (1 - confidence) / 2]
    low, high = share - np.nanquantile(np.subtract(shares, share), tails)
    share, low, high = np.clip([share, low, high], 0, 1).tolist()
    return Importance(share, min(low, share), max(high, share))


def _adjusted_share(features: np.ndarray, targets: np.ndarray) -> float:
    """Return the adjusted R² of a linear regression; NaN if there are too few trials."""
    total = ((targets - targets.mean()) ** 2).sum()
    fitted, _, rank, _ = np.linalg.lstsq(features, targets, rcond=None)
    free = len(targets) - int(rank)
    if free < 2 or total == 0:
        return np.nan
    rest = ((targets - features @ fitted) ** 2).sum()
    return 1 - (rest / free) / (total / (len(targets) - 1))


def probability_of_best(costs: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Return the probability that each trial has the lowest true cost, (trials,).

    The true costs are independent and normal, as in Bergstra and Bengio [2012, JMLR 13:281, §2.1].

    Args:
        costs: Measured costs, (trials,), finite.
        deviations: Standard deviation of the error of each, (trials,), >= 0.
    """
    # Without errors the lowest one is the best, and equal ones are equally likely.
    scale = np.abs(costs).max(initial=1e-300) + np.ptp(costs)
    # Not 0, since it is a divisor, but far below any difference.
    deviations = np.maximum(deviations, 1e-9 * scale)
    # Nodes of equal probability, so that an integral is their mean.
    nodes = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
    # (trials, nodes): quantiles of the true cost of each trial
    values = costs[:, None] + deviations[:, None] * nodes
    # (trials, nodes, others): probability that the other one is higher
    higher = ndtr((costs - values[..., None]) / deviations)
    # (trials, 1, others): a trial does not compete with itself.
    others = 1 - np.eye(len(costs))[:, None, :]
    probabilities = np.where(others, higher, 1).prod(-1).mean(1)
    return probabilities / probabilities.sum()
