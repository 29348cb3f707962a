"""Distributions: quantiles, their inverses, and equal mass where it is promised."""

import math

import numpy as np
import pytest
from scipy import stats

from fnn import search
from fnn.errors import ConfigError

U = (np.arange(20_000) + 0.5) / 20_000
CONTINUOUS = [
    (search.uniform(-1, 3), stats.uniform(-1, 4)),
    (search.log_uniform(1e-4, 1e-1), stats.loguniform(1e-4, 1e-1)),
    (search.normal(2, 0.5), stats.norm(2, 0.5)),
]


@pytest.mark.parametrize(("own", "oracle"), CONTINUOUS, ids=lambda one: repr(one)[:12])
def test_quantiles_are_those_of_scipy(own, oracle):
    values = [own.quantile(u) for u in U[::97]]
    np.testing.assert_allclose(values, oracle.ppf(U[::97]), rtol=1e-9)


@pytest.mark.parametrize(("own", "_"), CONTINUOUS, ids=lambda one: repr(one)[:12])
def test_the_probability_inverts_the_quantile(own, _):
    for u in (0.0, 0.1, 0.5, 0.99):
        assert own.probability(own.quantile(u)) == pytest.approx(u, abs=1e-9)


@pytest.mark.parametrize("low", [-3, 0, 1])
def test_integers_have_equal_mass_also_at_the_ends(low):
    values = [search.integer(low, low + 3).quantile(u) for u in U]
    assert np.unique(values, return_counts=True)[1].tolist() == [5_000] * 4


def test_log_integers_have_the_mass_of_their_intervals():
    own = search.log_integer(1, 6)
    values = [own.quantile(u) for u in U]
    counts = np.unique(values, return_counts=True)[1]
    expected = [math.log((k + 1) / k) / math.log(7) for k in range(1, 7)]
    np.testing.assert_allclose(counts / len(U), expected, atol=1e-4)


def test_choices_have_equal_mass():
    values = [search.choice("a", "b", "c").quantile(u) for u in U[:-2]]
    counts = np.unique(values, return_counts=True)[1]
    assert counts.max() - counts.min() <= 2


def test_the_median_of_log_uniform_is_the_geometric_mean_of_its_ends():
    assert search.log_uniform(1e-4, 1e-2).quantile(0.5) == pytest.approx(1e-3)


@pytest.mark.parametrize("own", [search.uniform(0, 1), search.log_uniform(1e-5, 3.0)])
def test_quantiles_do_not_leave_the_interval(own):
    low, high = own.examples
    assert low <= own.quantile(0.0) <= own.quantile(np.nextafter(1, 0)) <= high


@pytest.mark.parametrize(
    ("own", "points"),
    [
        (search.uniform(0, 1), [0, 0.5, 1]),
        (search.log_uniform(1e-4, 1e-2), [1e-4, 1e-3, 1e-2]),
        (search.integer(2, 6), [2, 3, 4, 5, 6]),
        (search.log_integer(1, 4), [1, 2, 3, 4]),
        (search.choice(32, 64), [32, 64]),
    ],
    ids=repr,
)
def test_points_of_a_grid_include_both_ends_and_all_of_finitely_many(own, points):
    assert own.points(3) == pytest.approx(points)


def test_distributions_print_as_the_call_that_makes_them():
    for text in ("uniform(0, 0.5)", "integer(1, 4)", "choice('a', 2)", "normal(0, 1)"):
        own = eval(f"search.{text}")
        assert repr(own) == f"search.{text}"
        assert own == eval(repr(own))
    assert search.uniform(0, 1) != search.uniform(0, 2)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: search.uniform(1, 1), "high"),
        (lambda: search.uniform(2, 1), "exchange"),
        (lambda: search.uniform(float("nan"), 1), "low"),
        (lambda: search.uniform(0, float("inf")), "high"),
        (lambda: search.log_uniform(0, 1), "logarithm"),
        (lambda: search.log_uniform(-1, 1), "logarithm"),
        (lambda: search.integer(3, 3), "high"),
        (lambda: search.integer(0.5, 3), "whole"),
        (lambda: search.log_integer(0, 3), "above 0"),
        (lambda: search.normal(0, 0), "deviation"),
        (lambda: search.choice(), "at least one"),
        (lambda: search.choice([]), "at least one"),
    ],
)
def test_empty_and_reversed_spaces_raise_an_error(make, word):
    with pytest.raises(ConfigError, match=word):
        make()


def test_a_choice_has_options_and_an_interval_has_ends():
    assert search.choice(3, 1).options == (3, 1) and search.choice(3, 1).ends is None
    assert search.integer(0, 1).ends == (0, 1) and search.integer(0, 1).options is None
    assert search.log_uniform(1e-3, 1).ends == (1e-3, 1)
