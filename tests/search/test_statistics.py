"""Statistics of trials: closed forms, coverage and false alarms by simulation, invariances."""

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtri

from fnn.search import statistics

SCORES = np.array([0.70, 0.90, 0.81, 0.72, 0.80])


@pytest.fixture
def draw():
    return np.random.default_rng(0)


def test_the_mean_of_the_best_of_n_is_unbiased():
    mean = -statistics.best_of_n(-SCORES).mean
    np.testing.assert_allclose(mean[[1, 2, 4]], [0.8350, 0.8630, 0.9000], atol=1e-12)
    for n in range(1, 6):
        subsets = [max(subset) for subset in itertools.combinations(SCORES, n)]
        assert mean[n - 1] == pytest.approx(np.mean(subsets))


def test_the_mean_of_the_best_of_n_is_that_of_all_subsets(draw):
    # With equal costs and diverged trials.
    costs = np.round(draw.normal(size=9), 1)
    costs[[2, 5]] = np.inf
    finite = np.where(np.isfinite(costs), costs, costs[np.isfinite(costs)].max())
    mean = statistics.best_of_n(costs).mean
    for n in range(1, 10):
        subsets = [min(subset) for subset in itertools.combinations(finite, n)]
        assert mean[n - 1] == pytest.approx(np.mean(subsets))


def test_the_band_of_the_best_of_n_is_that_of_draws_with_replacement():
    found = statistics.best_of_n(SCORES, confidence=0.8)
    ascending = np.sort(SCORES)
    for n in (1, 2, 3):
        lowest = np.sort([min(one) for one in itertools.product(ascending, repeat=n)])
        ends = np.quantile(lowest, [0.1, 0.9], method="inverted_cdf")
        assert [found.low[n - 1], found.high[n - 1]] == ends.tolist()


def test_the_band_holds_the_best_of_other_searches(draw):
    n = 8
    inside = []
    for _ in range(400):
        found = statistics.best_of_n(draw.random(64), confidence=0.9)
        lowest = draw.random(n).min()
        inside.append(found.low[n - 1] <= lowest <= found.high[n - 1])
    assert 0.8 < np.mean(inside) < 0.95


def test_diverged_trials_count_as_the_worst_finite_cost():
    found = statistics.best_of_n(np.array([1.0, np.inf, 3.0, np.inf]))
    expected = statistics.best_of_n(np.array([1.0, 3.0, 3.0, 3.0]))
    np.testing.assert_array_equal(found.mean, expected.mean)


def test_ranks_of_equal_values_are_their_mean():
    values = np.array([3.0, 1.0, 3.0, np.inf, 2.0, np.inf, 3.0])
    np.testing.assert_array_equal(statistics.ranks(values), stats.rankdata(values))


def test_the_deviation_over_seeds_is_pooled():
    scores = np.array([[1.0, 3.0], [5.0, 5.0], [np.nan, 1.0]])
    assert statistics.seed_deviation(scores) == 1.0
    assert np.isnan(statistics.seed_deviation(scores[:, :1]))


def test_ties_of_two_trials_are_a_paired_t_test(draw):
    for _ in range(50):
        costs = draw.normal(size=(2, 4)) + draw.normal(size=4)
        significant = stats.ttest_rel(*costs).pvalue < 0.05
        assert statistics.ties(costs).all() != significant


def test_the_truly_best_trial_is_a_tie(draw):
    hits = []
    for _ in range(300):
        # Effects of trials and of seeds, and noise. Trial 0 is the best by a small margin.
        costs = draw.normal(size=(12, 4)) + 3 * draw.normal(size=4)
        costs[1:] += 0.1
        hits.append(statistics.ties(costs)[0])
    assert np.mean(hits) >= 0.95


def test_a_clearly_worse_or_diverged_trial_is_no_tie():
    costs = np.array([[1.0, 2.0, 3.0], [1.1, 1.9, 3.01], [9.0, 10.1, 11.0], [1.0, np.inf, 1.0]])
    assert statistics.ties(costs).tolist() == [True, True, False, False]


def test_three_seeds_distinguish_trials_that_are_far_apart(draw):
    costs = draw.normal(size=(64, 3)) + draw.normal(size=3)
    costs[32:] += 8
    found = statistics.ties(costs)
    assert found[:32].mean() > 0.9 and not found[32:].any()


def sides(draw, count, cost, noise, repeats=300):
    found = []
    for _ in range(repeats):
        positions = draw.random(count)
        costs = cost(positions) + noise * draw.normal(size=count)
        found.append(statistics.edge_test(positions, costs).side)
    return np.array(found)


@pytest.mark.parametrize("count", [10, 16, 64, 200])
def test_a_flat_objective_is_rarely_at_an_edge(count, draw):
    assert (sides(draw, count, np.zeros_like, 1.0, 600) != 0).mean() < 0.02


@pytest.mark.parametrize("levels", [3, 5])
def test_a_flat_objective_over_a_grid_is_rarely_at_an_edge(levels, draw):
    positions = np.tile((np.arange(levels) + 0.5) / levels, 8)
    found = [
        statistics.edge_test(positions, draw.normal(size=len(positions))).side for _ in range(400)
    ]
    assert (np.array(found) != 0).mean() < 0.02


def test_an_optimum_at_an_edge_is_found(draw):
    assert (sides(draw, 16, lambda u: -u, 0.1) == 1).mean() > 0.7
    assert (sides(draw, 32, lambda u: u, 0.1) == -1).mean() > 0.95
    # Nothing is learned in the lower three quarters, as by rates that are too low.
    assert (sides(draw, 32, lambda u: -np.maximum(u - 0.75, 0), 0.02) == 1).mean() > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("optimum", [0.3, 0.5, 0.7])
def test_an_optimum_inside_is_at_no_edge(optimum, draw):
    found = sides(draw, 64, lambda u: (u - optimum) ** 2, 0.005)
    assert (found != 0).mean() < 0.02


@pytest.mark.slow
def test_an_optimum_in_the_outer_fifth_counts_as_at_the_edge(draw):
    def share(optimum):
        return (sides(draw, 64, lambda u: (u - optimum) ** 2, 0.005, 100) == 1).mean()

    assert share(0.72) < 0.05 and 0.1 < share(0.8) < 0.6 and share(0.92) > 0.9


def test_the_rank_sum_is_that_of_scipy(draw):
    positions = draw.random(20)
    is_top = np.arange(20) < 5
    expected = stats.mannwhitneyu(
        positions[is_top], positions[~is_top], alternative="greater", method="exact"
    )
    found = statistics._rank_sum_tail(positions, is_top)
    assert found == pytest.approx(expected.pvalue, rel=1e-9)
    many, is_top = draw.random(100), np.arange(100) < 20
    expected = stats.mannwhitneyu(many[is_top], many[~is_top], alternative="greater")
    assert statistics._rank_sum_tail(many, is_top) == pytest.approx(expected.pvalue, rel=1e-3)


def test_without_enough_trials_or_differences_the_edge_is_unknown():
    assert statistics.edge_test(np.linspace(0, 1, 9), np.arange(9.0)).side is None
    assert statistics.edge_test(np.linspace(0, 1, 20), np.ones(20)).side is None
    costs = np.full(20, np.inf)
    costs[0] = 1
    assert statistics.edge_test(np.linspace(0, 1, 20), costs).side is None


@pytest.mark.parametrize("rest", [0.1, np.inf])
def test_a_few_trials_that_learn_are_enough_for_a_verdict(rest):
    positions, costs = np.linspace(0, 1, 16), np.full(16, rest)
    costs[-3:] = -1
    assert statistics.edge_test(positions, costs).side == 1
    costs[-1] = rest
    assert statistics.edge_test(positions, costs).side == 0


def test_shares_of_an_additive_function_are_known(draw):
    # y = √.8 a + √.2 b of normal a, b. The ranks of correlated normal variables have the
    # correlation 6/π asin(ρ/2), which for ρ = .8 and .2 is the share of a and b.
    positions = draw.random((2000, 3))
    costs = ndtri(positions[:, :2]) @ np.sqrt([0.8, 0.2])
    shares = [
        statistics.importance(statistics.ordered_features(column), costs) for column in positions.T
    ]
    truth = [*(6 / np.pi * np.arcsin(np.array([0.8, 0.2]) / 2)), 0]
    np.testing.assert_allclose([one.share for one in shares], truth, atol=0.04)
    for one, share in zip(shares, truth, strict=True):
        assert one.low - 1e-9 <= share <= one.high + 1e-9


def test_the_share_of_an_irrelevant_hyperparameter_is_0_on_average(draw):
    shares = []
    for _ in range(100):
        features = statistics.ordered_features(draw.random(24))
        shares.append(statistics._adjusted_share(features, draw.normal(size=24)))
    assert abs(np.mean(shares)) < 0.04


def test_options_explain_the_variance_between_them(draw):
    options = draw.integers(0, 3, 300)
    costs = np.array([0.0, 1.0, 2.0])[options] + draw.normal(size=300)
    found = statistics.importance(statistics.categorical_features(options), costs)
    between = stats.rankdata(costs)
    means = np.array([between[options == option].mean() for option in range(3)])[options]
    assert found.share == pytest.approx(means.var() / between.var(), abs=0.01)
    assert found.low < 0.4 < found.high


def test_shares_of_few_trials_are_unknown(draw):
    found = statistics.importance(statistics.ordered_features(draw.random(9)), draw.random(9))
    assert np.isnan(found).all()


def test_results_do_not_depend_on_the_order_or_the_scale_of_the_costs(draw):
    positions, costs = draw.random(40), draw.normal(size=40)
    costs[3:6] = np.inf
    features = statistics.ordered_features(positions)
    order = draw.permutation(40)
    for edited in (costs[order], np.exp(costs[order])):
        assert statistics.edge_test(positions[order], edited) == statistics.edge_test(
            positions, costs
        )
        np.testing.assert_allclose(
            statistics.importance(features[order], edited), statistics.importance(features, costs)
        )


def test_the_probability_of_being_the_best_is_that_of_normal_errors(draw):
    costs, deviations = np.array([0.0, 0.01, 0.2, 1.0]), np.array([0.1, 0.1, 0.2, 0.1])
    samples = costs + deviations * draw.normal(size=(100_000, 4))
    shares = np.bincount(samples.argmin(1), minlength=4) / 100_000
    found = statistics.probability_of_best(costs, deviations)
    np.testing.assert_allclose(found, shares, atol=0.01)
    exact = statistics.probability_of_best(np.array([1.0, 1.0, 2.0]), np.zeros(3))
    np.testing.assert_allclose(exact, [0.5, 0.5, 0], atol=1e-3)
