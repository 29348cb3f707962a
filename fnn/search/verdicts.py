"""Verdicts about hyperparameters: whether an interval ends too early, and which of them matter."""

from typing import NamedTuple

import numpy as np

from fnn.search import statistics
from fnn.search.columns import edges
from fnn.search.distributions import Distribution
from fnn.search.statistics import Importance

# Verdicts about the interval of a hyperparameter.
ABOVE, BELOW, INSIDE, UNKNOWN, NO_EDGES = "above", "below", "inside", "unknown", "no edges"


class Boundary(NamedTuple):
    """Whether the best trials are at an edge of the interval of a hyperparameter.

    Attributes:
        verdict: "above" or "below" if the interval should be widened on that side; "inside" if
            not; "no edges" for a normal distribution and options without an order; "unknown" if
            there are too few trials.
        edge: The end of the interval to widen; None for the other verdicts.
        p_value: Probability of such trials if the hyperparameter had no influence; NaN if unknown.
    """

    verdict: str
    edge: float | None
    p_value: float

    def __str__(self) -> str:
        if self.edge is None:
            return self.verdict
        return f"widen {self.verdict} {self.edge:.4g}"


def find_boundary(distribution: Distribution, positions: np.ndarray, costs: np.ndarray) -> Boundary:
    """Return whether the best trials are at an edge of an interval.

    Args:
        distribution: Of the hyperparameter.
        positions: On its scale, (trials,), from 0 to 1.
        costs: (trials,), lower is better.
    """
    ends = edges(distribution)
    if ends is None:
        return Boundary(NO_EDGES, None, np.nan)
    side, p_value = statistics.edge_test(positions, costs)
    if side is None:
        return Boundary(UNKNOWN, None, p_value)
    if side == 0:
        return Boundary(INSIDE, None, p_value)
    return Boundary(ABOVE if side > 0 else BELOW, ends[1] if side > 0 else ends[0], p_value)


def find_importance(
    distribution: Distribution, positions: np.ndarray, costs: np.ndarray, confidence: float
) -> Importance:
    """Return the share of the variance of the ranks that a hyperparameter explains alone.

    Args:
        distribution: Of the hyperparameter.
        positions: On its scale, (trials,), from 0 to 1.
        costs: (trials,), lower is better.
        confidence: Of the interval of the share.
    """
    # A variance needs two trials.
    if len(costs) < 2:
        return Importance(np.nan, np.nan, np.nan)
    # Options have no order that a curve could follow.
    is_ordered = distribution.is_number
    features = statistics.ordered_features if is_ordered else statistics.categorical_features
    return statistics.importance(features(positions), costs, confidence)
