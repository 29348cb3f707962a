"""Calls with variables: open values, their checks, and the values put in."""

import pytest

from fnn import nn, optim, search, train
from fnn.errors import ConfigError
from fnn.values import assign, is_open, variables_of


def space(rate, drop_rate):
    network = nn.chain(nn.dense(4), nn.dropout(drop_rate))
    return train.recipe(network, optim.adam(optim.cosine(rate, steps=10)))


def test_a_call_with_a_variable_is_open_and_a_closed_one_is_not():
    assert is_open(space(search.uniform(0, 1), 0.1))
    assert not is_open(space(0.1, 0.1))


def test_variables_come_with_their_paths():
    rate, drop_rate = search.log_uniform(1e-3, 1), search.uniform(0, 0.5)
    found = dict(variables_of(space(rate, drop_rate)))
    assert list(found) == ["network.1.drop_rate", "optimizer.rate.peak"]
    assert found["optimizer.rate.peak"] is rate


def test_values_take_the_places_of_variables():
    rate, drop_rate = search.log_uniform(1e-3, 1), search.uniform(0, 0.5)
    values = {id(rate): 0.25, id(drop_rate): 0.125}
    made = assign(space(rate, drop_rate), lambda variable: values[id(variable)])
    assert made == space(0.25, 0.125)
    assert made["optimizer.rate.peak"] == 0.25


def test_one_variable_in_two_places_has_one_value():
    both = search.uniform(0, 0.5)
    network = nn.chain(nn.dropout(both), nn.dense(2), nn.dropout(both))
    made = assign(network, lambda variable: variable.quantile(0.5))
    assert made == nn.chain(nn.dropout(0.25), nn.dense(2), nn.dropout(0.25))


def test_options_have_variables_of_their_own():
    rate = search.log_uniform(1e-3, 1)
    optimizer = search.choice(optim.sgd(rate), optim.adam(1e-3))
    recipe = train.recipe(nn.dense(2), optimizer)
    assert [path for path, _ in variables_of(recipe)] == ["optimizer", "optimizer.sgd.rate"]
    values = {id(rate): 0.5, id(optimizer): optimizer.examples[0]}
    made = assign(recipe, lambda variable: values[id(variable)])
    assert made == train.recipe(nn.dense(2), optim.sgd(0.5))


def test_options_that_share_a_name_or_have_none_have_an_index():
    rates = [search.uniform(0.1, 1) for _ in range(3)]
    optimizer = search.choice(optim.sgd(rates[0]), optim.sgd(rates[1]), optim.adam(rates[2]))
    sizes = search.choice([[search.uniform(0, 1)], None])
    paths = [path for path, _ in variables_of({"optimizer": optimizer, "sizes": sizes})]
    assert paths == [
        "optimizer", "optimizer.sgd[0].rate", "optimizer.sgd[1].rate", "optimizer.adam.rate",
        "sizes", "sizes[0].0",
    ]  # fmt: skip


def test_open_values_print_and_compare():
    text = "nn.chain(nn.dense(4), nn.dropout(search.uniform(0, 0.5)))"
    assert repr(eval(text)) == text
    assert eval(text) == eval(text)
    assert hash(eval(text)) == hash(eval(text))


def test_both_ends_are_checked_at_the_call():
    with pytest.raises(ConfigError, match=r"dropout drop_rate: .* got 1.5"):
        nn.dropout(search.uniform(0, 1.5))
    with pytest.raises(ConfigError, match="dense"):
        nn.dense(search.integer(-1, 4))
    with pytest.raises(ConfigError, match="momentum"):
        optim.momentum(0.1, momentum=search.choice(0.5, 1.5))


def test_intervals_are_refused_in_the_place_of_structure():
    with pytest.raises(ConfigError, match=r"dense units: .*numbers are: none.*search\.integer"):
        nn.dense(search.uniform(1, 8))
    with pytest.raises(ConfigError, match=r"momentum nesterov: .*numbers are: rate, momentum"):
        optim.momentum(0.1, nesterov=search.uniform(0, 1))


def test_open_recipes_are_refused_by_functions_of_recipes(key):
    recipe = space(search.uniform(0, 1), 0.1)
    for use in (
        lambda: train.run(key, recipe, ([[0.0]], [0]), epochs=1, batch_size=1),
        lambda: train.start(key, recipe, (3,)),
        lambda: recipe.optimizer.init({}),
    ):
        with pytest.raises(ConfigError, match=r"search\.uniform\(0, 1\)"):
            use()


def test_misspelled_arguments_are_named_in_an_open_call():
    with pytest.raises(TypeError, match="momentun"):
        optim.momentum(search.uniform(0, 1), momentun=0.9)
