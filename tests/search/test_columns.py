"""Columns of hyperparameters: positions, edges and labels."""

import jax
import numpy as np
import pytest

from fnn import nn, optim, search
from fnn.search.columns import edges, labeled, option_labels, positions, value_label

LOG_ENDS = np.log([1, 2, 3, 4]) / np.log(4)
POSITIONS = {
    "integer": (search.integer(1, 4), [1, 2, 3, 4], [0.125, 0.375, 0.625, 0.875]),
    "log_integer": (search.log_integer(1, 3), [1, 2, 3], (LOG_ENDS[1:] + LOG_ENDS[:-1]) / 2),
    "numbers in another order": (search.choice(3, 1, 2), [1, 2, 3], [1 / 6, 1 / 2, 5 / 6]),
    "uniform": (search.uniform(1, 3), [1, 2, np.nan], [0, 0.5, np.nan]),
    "log_uniform": (search.log_uniform(1e-6, 1e-2), [1e-6, 1e-4, 1e-2], [0, 0.5, 1]),
    "normal": (search.normal(2, 1), [2, np.nan], [0.5, np.nan]),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_are_probabilities(name):
    distribution, values, expected = POSITIONS[name]
    found = positions(distribution, np.array(values, float))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_options_have_positions_and_labels_in_their_order():
    options = search.choice("b", None, jax.nn.relu)
    column = np.array([jax.nn.relu, "b", None], object)
    np.testing.assert_allclose(positions(options, column), [5 / 6, 1 / 6, 1 / 2])
    assert labeled(options, column).tolist() == ["jax.nn.relu", "b", "None"]
    assert value_label(options, None) == "None"
    assert value_label(search.choice("a", "b"), None) == "-"


def test_edges_are_the_ends_of_intervals():
    assert edges(search.log_uniform(1e-3, 1)) == (1e-3, 1)
    assert edges(search.integer(2, 5)) == (2, 5)
    assert edges(search.choice(8, 32, 16)) == (8, 32)
    assert edges(search.normal(0, 1)) is None
    assert edges(search.choice("a", "b")) is None


def test_labels_of_options_differ():
    assert option_labels(["relu", None, 0.5]) == ["relu", "None", "0.5"]
    assert option_labels([nn.relu(), nn.tanh()]) == ["nn.relu", "nn.tanh"]
    assert option_labels([optim.sgd(0.1), optim.sgd(1.0)]) == ["optim.sgd(0.1)", "optim.sgd(1)"]
    assert option_labels([jax.nn.relu, optim.adam]) == ["jax.nn.relu", "optim.adam"]
    assert option_labels([True, False, "True"]) == ["True", "False", "'True'"]
