"""Statistics over folds, against the formulas and scipy."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fnn import search
from fnn.errors import ConfigError
from fnn.search.fold_statistics import CrossValidation, corrected_variance
from fnn.search.score import Score

draw = np.random.default_rng(0)


def of_scores(scores, folds=5, n=100):
    fold_of = np.tile(np.arange(n) % folds, (len(scores), 1))
    indices = np.zeros((len(scores), folds, n - n // folds), int)
    return CrossValidation(np.array(scores), {}, None, fold_of, indices, Score())


def test_the_variance_is_corrected_for_the_overlap_of_training_parts():
    scores = np.array([0.1, 0.14, 0.09, 0.12, 0.15])
    found = of_scores([scores])
    variance = (1 / 5 + 20 / 80) * scores.var(ddof=1)
    assert found.standard_error == pytest.approx(np.sqrt(variance), rel=1e-12)
    interval = stats.t.interval(0.9, 4, loc=scores.mean(), scale=np.sqrt(variance))
    np.testing.assert_allclose(found.interval(0.9), interval, rtol=1e-10)
    assert corrected_variance(scores, 0.25) == pytest.approx(variance)
    assert np.isnan(found.repeat_deviation)
    assert found.fold_deviation == pytest.approx(scores.std(ddof=1))
    with pytest.raises(ConfigError, match=r"interval level: expected a number in \(0, 1\)"):
        found.interval(1.0)


def test_the_interval_of_a_share_ends_at_0_and_1():
    scores = [[1.0, 0.9, 1.0, 0.8, 1.0]]
    found = of_scores(scores)
    share = replace(found, figure=Score("valid_accuracy", -1))
    assert found.interval().high > 1
    assert share.interval() == (found.interval().low, 1.0)
    low = replace(of_scores([[0.0, 0.1, 0.0, 0.0, 0.2]]), figure=Score("valid_f1", -1))
    assert low.interval().low == 0 < low.interval().high < 1
    assert np.isnan(replace(share, scores=np.full((1, 5), np.nan)).interval()).all()


def test_a_comparison_is_the_corrected_paired_t_test():
    first, second = draw.normal(1, 0.1, (2, 3, 5))
    found = search.compare(of_scores(first), of_scores(second))
    d = (first - second).ravel()
    t = d.mean() / np.sqrt((1 / 15 + 0.25) * d.var(ddof=1))
    assert found.statistic == pytest.approx(t)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(t), 14))
    assert found.better == ("first" if d.mean() < 0 else "second")
    np.testing.assert_allclose(
        found.interval(), d.mean() + np.array(stats.t.interval(0.95, 14)) * abs(d.mean() / t)
    )
    same = search.compare(of_scores(first), of_scores(first))
    assert (same.p_value, same.better) == (1.0, "equal")


def test_under_equal_recipes_the_corrected_test_rejects_rarely():
    # Means of 5 folds that share 3/4 of their training examples, as correlated normal scores.
    correlation = 20 / 100
    covariance = np.full((5, 5), correlation) + (1 - correlation) * np.eye(5)
    scores = np.random.default_rng(1).multivariate_normal(np.zeros(5), covariance, 2000)
    p = [search.compare(of_scores([row]), of_scores([np.zeros(5)])).p_value for row in scores]
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.07


def test_a_diverged_run_is_counted_and_makes_the_mean_nan():
    found = of_scores([[0.1, np.nan, 0.2, 0.1, 0.1]])
    assert "1 of 5 runs diverged" in repr(found)
    assert np.isnan(found.mean)
