"""Parameters of recipes by the paths of scikit-learn."""

from functools import partial

import pytest

from fnn import nn, objective, optim, train
from fnn.errors import ConfigError
from fnn.lab.estimators.parameters import read_parameters, replace_parameters


def make(outputs, width=8, rate=0.1):
    network = nn.chain(nn.dense(width), nn.relu(), nn.dense(outputs))
    return train.recipe(network, optim.adam(rate))


def scheduled(network=None):
    network = network or nn.chain(nn.dense(4), nn.dropout(0.2), nn.dense(3))
    schedule = optim.one_cycle(0.1, steps=10)
    loss = objective.cross_entropy(label_smoothing=0.1)
    return train.recipe(network, optim.adamw(schedule, weight_decay=0.01), loss=loss)


def replaced(recipe, **changes):
    return replace_parameters("recipe", recipe, changes)


def test_every_number_of_a_recipe_has_a_path():
    found = read_parameters(scheduled())
    assert found["optimizer__rate__peak"] == 0.1 and found["network__1__drop_rate"] == 0.2
    assert found["network__1"] == nn.dropout(0.2)
    for path in ("optimizer.rate.peak", "network.1.drop_rate", "loss.label_smoothing"):
        assert found[path.replace(".", "__")] == scheduled()[path]


def test_numbers_parts_and_defaults_can_be_replaced():
    wide = nn.chain(nn.dense(4), nn.dropout(0.5), nn.dense(3))
    changed = replaced(scheduled(), network__1__drop_rate=0.5, loss__label_smoothing=0.3)
    loss = objective.cross_entropy(label_smoothing=0.3)
    assert changed == scheduled(wide).replace(loss=loss)
    assert replaced(scheduled(), optimizer=optim.sgd(1.0)) == scheduled().replace(
        optimizer=optim.sgd(1.0)
    )
    betas = replaced(make(3), optimizer__b1=0.5, micro_batch_size=4)
    assert betas == make(3).replace(optimizer=optim.adam(0.1, b1=0.5), micro_batch_size=4)
    layers = replaced(make(3), network__0=nn.dense(5), network__2__units=7)
    assert layers.network == nn.chain(nn.dense(5), nn.relu(), nn.dense(7))


def test_entries_of_keywords_dicts_and_lists_can_be_replaced():
    parts = nn.parallel(left=nn.dense(2), right=nn.dense(3))
    assert replaced(parts, left__units=5) == nn.parallel(left=nn.dense(5), right=nn.dense(3))
    metrics = {"f1": objective.f1(), "top": objective.top_k(2)}
    recipe = make(3).replace(metrics=metrics)
    changed = replaced(recipe, metrics__top=objective.top_k(3))
    assert changed == make(3).replace(metrics=metrics | {"top": objective.top_k(3)})


def test_options_of_a_function_are_parameters():
    assert read_parameters(make) == {"width": 8, "rate": 0.1}
    changed = replaced(replaced(make, width=4), rate=0.5)
    assert read_parameters(changed) == {"width": 4, "rate": 0.5}
    assert changed(3) == make(3, 4, 0.5)
    assert read_parameters(partial(make, width=2))["width"] == 2


@pytest.mark.parametrize(
    ("recipe", "path", "message"),
    [
        (make, "depth", r"recipe__depth: expected one of width, rate, got 'depth'"),
        (make(3), "optimiser__rate", r"recipe__optimiser: expected one of network, optimizer"),
        (make(3), "optimizer__speed", r"adam speed: expected one of rate, b1"),
        (make(3), "network__7__units", r"recipe__network__7: expected one of 0, 1, 2"),
        (make(3), "network__0__units__x", r"recipe__network__0__units__x: expected no parameters"),
        (make(3), "optimizer__b1", r"adam b1: expected a number in \[0, 1\)"),
    ],
)
def test_a_wrong_path_or_value_is_an_error(recipe, path, message):
    with pytest.raises(ConfigError, match=message):
        replaced(recipe, **{path: 2.0})
