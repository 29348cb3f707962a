"""The plans of halving and Hyperband, against the tables of the paper; the number of lanes."""

import numpy as np
import pytest

from fnn import search
from fnn.errors import ConfigError
from fnn.search.brackets import best_lanes, floor_log, halving_bracket, survivors


def test_the_table_of_hyperband_is_that_of_the_paper():
    plan = search.brackets(81, eta=3)
    assert [[tuple(rung) for rung in bracket.rungs] for bracket in plan] == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]
    assert sum(bracket.trials for bracket in plan) == 143
    assert [bracket.total_epochs for bracket in plan] == [297, 276, 279, 324, 405]
    restarted = sum(rung.trials * rung.epochs for bracket in plan for rung in bracket.rungs)
    assert restarted == 1902


@pytest.mark.parametrize(
    ("epochs", "eta", "trials"),
    [(27, 3, [27, 12, 6, 4]), (243, 3, [243, 98, 41, 18, 9, 6]), (1000, 10, [1000, 134, 20, 4])],
)
def test_powers_are_exact(epochs, eta, trials):
    assert [bracket.trials for bracket in search.brackets(epochs, eta=eta)] == trials


def test_the_total_of_27_epochs_is_357():
    assert sum(bracket.total_epochs for bracket in search.brackets(27)) == 357


def test_epochs_that_are_no_power_are_rounded_down():
    (first, *_) = search.brackets(20, min_epochs=2)
    assert [tuple(rung) for rung in first.rungs] == [(9, 2), (3, 6), (1, 20)]


def test_halving_stops_as_often_as_trials_and_epochs_allow():
    def rungs(*arguments, **options):
        return [tuple(rung) for rung in halving_bracket(*arguments, **options).rungs]

    assert rungs(64, 27) == [(64, 1), (21, 3), (7, 9), (2, 27)]
    assert rungs(5, 27) == [(5, 9), (1, 27)]
    assert rungs(7, 7, eta=7) == [(7, 1), (1, 7)]
    assert rungs(30, 27, min_epochs=4) == [(30, 9), (10, 27)]


def test_logarithms_are_integers():
    assert [floor_log(value, 10) for value in (1, 9, 10, 999, 1000)] == [0, 0, 1, 2, 3]
    assert all(floor_log(3**n, 3) == n for n in range(60))


def test_survivors_are_the_best_and_the_earlier_of_equal_ones():
    cost = np.array([3.0, 1.0, np.inf, 1.0, 1.0])
    assert survivors(cost, 2).tolist() == [1, 3]
    assert survivors(cost, 5).tolist() == [0, 1, 3, 4]
    # A monotone transform changes nothing.
    assert survivors(np.exp(cost), 2).tolist() == [1, 3]


def test_lanes_are_few_where_few_trials_train_longest():
    assert best_lanes([(100, 1)], 64) == 50
    assert best_lanes([(143, 1), (89, 2), (48, 6), (24, 18), (10, 54)], 64) == 12
    assert best_lanes([(7, 3)], 1) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: search.brackets(9, eta=1), "brackets eta: expected >= 2"),
        (lambda: search.brackets(2), "brackets min_epochs: expected at most epochs / eta = 2 / 3"),
        (lambda: search.brackets(9, min_epochs=0), "brackets min_epochs: expected >= 1"),
        (lambda: halving_bracket(2, 9), "halving trials: expected at least eta = 3, got 2"),
        (lambda: halving_bracket(9, 9, min_epochs=10), "halving min_epochs: expected at most"),
    ],
)
def test_plans_without_a_halving_raise(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
