"""Spaces: the recipe at a point, the hyperparameters that it uses, and functions of recipes."""

import numpy as np
import pytest

from fnn import nn, optim, search, train
from fnn.errors import ConfigError
from fnn.search.space import as_space

RATE = search.log_uniform(1e-4, 1)
DROP = search.uniform(0, 0.5)


def network(units=3, drop_rate=0.1):
    return nn.chain(nn.dense(units), nn.dropout(drop_rate), nn.dense(2))


def test_the_recipe_at_a_point_has_the_quantiles_of_its_coordinates():
    space = as_space("random", train.recipe(network(drop_rate=DROP), optim.sgd(RATE)))
    assert list(space.distributions) == ["network.1.drop_rate", "optimizer.rate"]
    recipe, values = space.draw(np.array([0.5, 0.25]))
    assert values == {"network.1.drop_rate": 0.25, "optimizer.rate": pytest.approx(1e-3)}
    rate = values["optimizer.rate"]
    assert recipe == train.recipe(network(drop_rate=0.25), optim.sgd(rate))


def test_a_shared_distribution_is_one_hyperparameter():
    two = nn.chain(nn.dropout(DROP), nn.dense(2), nn.dropout(DROP))
    space = as_space("random", train.recipe(two, optim.sgd(0.1)))
    assert list(space.distributions) == ["network.0.drop_rate"]
    recipe, _ = space.draw(np.array([0.5]))
    assert recipe["network.0.drop_rate"] == recipe["network.2.drop_rate"] == 0.25


def test_equal_distributions_in_two_places_are_two_hyperparameters():
    two = nn.chain(nn.dropout(search.uniform(0, 0.5)), nn.dropout(search.uniform(0, 0.5)))
    space = as_space("random", train.recipe(two, optim.sgd(0.1)))
    recipe, _ = space.draw(np.array([0.5, 0.25]))
    assert (recipe["network.0.drop_rate"], recipe["network.1.drop_rate"]) == (0.25, 0.125)


def test_hyperparameters_of_options_that_are_not_chosen_are_none():
    optimizer = search.choice(optim.sgd(RATE), optim.adam(search.uniform(0, 1)))
    space = as_space("random", train.recipe(network(), optimizer))
    assert list(space.distributions) == [
        "optimizer",
        "optimizer.sgd.rate",
        "optimizer.adam.rate",
    ]
    recipe, values = space.draw(np.array([0.9, 0.5, 0.25]))
    assert recipe == train.recipe(network(), optim.adam(0.25))
    assert values["optimizer.sgd.rate"] is None
    assert values["optimizer.adam.rate"] == 0.25


def test_a_function_makes_recipes_of_coupled_hyperparameters():
    def make(units, rate):
        return train.recipe(network(units), optim.sgd(rate / units))

    space = search.space(make, units=search.integer(2, 5), rate=search.uniform(0, 1))
    recipe, values = space.draw(np.array([0.6, 0.5]))
    assert values == {"units": 4, "rate": 0.5}
    assert recipe == make(4, 0.5)
    assert "units=search.integer(2, 5), rate=search.uniform(0, 1)" in repr(space)


def test_invalid_values_of_a_function_raise_when_the_space_is_made():
    def make(rate):
        return train.recipe(network(), optim.momentum(0.1, momentum=rate))

    with pytest.raises(ConfigError, match="momentum"):
        search.space(make, rate=search.uniform(0, 2))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: as_space("random", train.recipe(network(), optim.sgd(0.1))), "distribution"),
        (lambda: as_space("random", {"rate": RATE}), r"recipe or a search\.space"),
        (lambda: search.space(lambda rate: 3, rate=RATE), "returns a recipe"),
        (lambda: search.space(lambda rate: 3, rate=0.1), "distribution"),
        (lambda: search.space(lambda: 3), "at least one distribution"),
    ],
)
def test_what_is_no_space_raises_an_error(make, match):
    with pytest.raises(ConfigError, match=match):
        make()
