"""Decisions to stop trials, against tables computed by hand."""

import numpy as np
import pytest

from fnn import search
from fnn.errors import ConfigError, ShapeError

NAN = np.nan


@pytest.mark.parametrize(
    ("score", "rung", "stops"),
    [
        (1.0, [], False),  # the first one continues
        (2.0, [1.0], True),  # fewer than eta: only the best so far
        (1.0, [1.0], False),  # a tie continues
        (0.5, [1.0, 2.0], False),
        (1.5, [1.0, 2.0, 3.0], True),  # 4 // 4 = 1 of 4
        (2.0, [1.0, 3, 4, 5, 6, 7, 8], False),  # 8 // 4 = 2 of 8
        (3.5, [1.0, 3, 4, 5, 6, 7, 8], True),
        (NAN, [], True),
        (1.0, [NAN, NAN], False),
    ],
)
def test_asynchronous_halving_keeps_a_quarter(score, rung, stops):
    assert search.halving_stops(score, rung) is stops
    # The mirrored scores, and a monotone transform, give the same decision.
    assert search.halving_stops(-score, [-one for one in rung], mode="max") is stops
    assert search.halving_stops(np.exp(score), np.exp(rung)) is stops


def test_promotion_is_from_the_highest_rung_down():
    rungs = [{0: 0.5, 1: 0.4, 2: 0.3, 3: 0.2}, {3: 0.1, 2: 0.2}, {}]
    assert search.halving_promotion(rungs, [{3, 2}, set(), set()], eta=2) == (1, 3)
    assert search.halving_promotion(rungs, [{3}, {3}, set()], eta=2) == (0, 2)
    assert search.halving_promotion(rungs, [{3, 2}, {3}, set()], eta=2) is None
    assert search.halving_promotion(rungs[:1], [set()], eta=2) is None
    # Of equal scores the lower number; NaN never.
    assert search.halving_promotion([{7: 1.0, 4: 1.0}, {}], [set(), set()], eta=2) == (0, 4)
    assert search.halving_promotion([{7: NAN, 4: NAN}, {}], [set(), set()], eta=2) is None
    assert search.halving_promotion([{1: 1.0, 2: 3.0}, {}], [(), ()], eta=2, mode="max") == (0, 2)


FINISHED = [[5.0, 4, 3], [6, 5, 4], [7, 6, 5], [8, 7, 6], [9, NAN, NAN]]


@pytest.mark.parametrize(
    ("scores", "options", "stops"),
    [
        ([7.0], {}, False),  # equal to the median
        ([7.1], {}, True),
        ([5.5, 9.0], {}, False),  # the best so far counts: 5.5 = median of 4, 5, 6, 7
        ([5.6, 9.0], {}, True),
        ([6.5, 9.0], {"percentile": 100}, False),
        ([6.5], {"percentile": 25}, True),
        ([99.0], {"warmup": 1}, False),
        ([99.0], {"min_trials": 6}, False),
        ([NAN], {}, True),
        ([99.0] * 4, {}, False),  # no trial has a score there
        ([], {}, False),
    ],
)
def test_the_median_rule(scores, options, stops):
    assert search.percentile_stops(scores, FINISHED, **options) is stops
    mirrored = [-np.array(scores), -np.array(FINISHED)]
    assert search.percentile_stops(*mirrored, mode="max", **options) is stops


@pytest.mark.parametrize(
    ("scores", "best", "p", "stops"),
    [
        # Four positive differences: p = 1 / 16.
        ([2.0, 3.1, 4.2, 5.3], [1.0, 2.0, 3.0, 4.0], 0.1, True),
        ([2.0, 3.1, 4.2, 5.3], [1.0, 2.0, 3.0, 4.0], 0.0625, False),
        ([2.0, 3.1, 4.2], [1.0, 2.0, 3.0, 4.0], 0.1, False),  # p = 1 / 8
        ([2.0, 3.1, 4.2, 5.3], [1.0, 2.0, 3.0, 4.0, 99.0], 0.1, False),  # the mean is better
        ([2.0], [1.0], 1.0, False),
        ([NAN, 3.0, 3.0, 3.0, 3.0], [1.0] * 5, 0.1, False),
        ([1.0] * 6, [1.0] * 6, 0.1, False),
    ],
)
def test_wilcoxon_stops_a_trial_that_is_worse_on_all_folds(scores, best, p, stops):
    assert search.wilcoxon_stops(scores, best, p=p) is stops
    mirrored = [-np.array(scores), -np.array(best)]
    assert search.wilcoxon_stops(*mirrored, p=p, mode="max") is stops


@pytest.mark.parametrize(
    ("scores", "patience", "stops"),
    [
        ([1.0, 2, 2], 1, True),
        ([1.0, 2], 1, False),  # too few
        ([1.0, 2, 1], 1, False),  # equal is not worse
        ([3.0, 2, 4, 1], 1, False),
        ([1.0, NAN, NAN], 1, True),
        ([NAN, NAN, NAN], 1, False),
        ([1.0, 2.0], 0, True),
    ],
)
def test_patience(scores, patience, stops):
    assert search.patience_stops(scores, patience) is stops
    far = stops and bool(np.isnan(scores[1]))
    assert search.patience_stops(scores, patience, min_delta=5.0) is far
    assert search.patience_stops(-np.array(scores), patience, mode="max") is stops


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: search.halving_stops(1, [], eta=1), ConfigError, "halving_stops eta"),
        (lambda: search.halving_stops(1, [], mode="up"), ConfigError, "halving_stops mode"),
        (lambda: search.halving_stops(1, [[1]]), ShapeError, r"halving_stops rung: expected shape"),
        (lambda: search.halving_promotion([{}], []), ShapeError, "halving_promotion promoted"),
        (
            lambda: search.percentile_stops([1], FINISHED, percentile=101),
            ConfigError,
            "percentile_stops percentile",
        ),
        (lambda: search.percentile_stops([1], [1]), ShapeError, "percentile_stops finished"),
        (lambda: search.wilcoxon_stops([1, 2], [1]), ShapeError, "at most 1 scores, got 2"),
        (lambda: search.patience_stops([1], -1), ConfigError, "patience_stops patience"),
    ],
)
def test_wrong_arguments_raise(call, error, message):
    with pytest.raises(error, match=message):
        call()
