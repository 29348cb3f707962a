"""Lanes: each is the run of its recipe, however many there are, and wherever it is cut."""

import jax
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.errors import ConfigError
from fnn.search.lanes import Lanes, prepare_task, train_epoch
from fnn.train.evaluate import validate
from fnn.types import Instruments

draw = np.random.default_rng(0)
X = draw.normal(size=(52, 5)).astype(np.float32)
Y = draw.integers(0, 3, 52)
DATA = (X[:40], Y[:40])
VALID = (X[40:], Y[40:])
RATES = (0.01, 0.03, 0.1)


def recipe(rate, **options):
    network = nn.chain(nn.dense(4), nn.batch_norm(), nn.tanh(), nn.dropout(0.2), nn.dense(3))
    return train.recipe(network, optim.momentum(rate), **options)


def lanes_of(recipes, size, epochs=4):
    task = prepare_task(recipes[:1], DATA, VALID, epochs=epochs, batch_size=8)
    return Lanes(recipes[0], task, len(recipes), size)


def run(key, one):
    return train.run(key, one, DATA, valid=VALID, epochs=4, batch_size=8)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_lane_is_the_run_of_its_recipe(key, size):
    recipes = [recipe(rate) for rate in RATES]
    lanes = lanes_of(recipes, size)
    states, figures = lanes.advance(recipes, lanes.start(key, recipes), 4)
    for index, one in enumerate(recipes):
        expected = run(key, one)
        own = lanes.take(states, index)
        for a, b in zip(
            jax.tree.leaves(own._replace(key=())),
            jax.tree.leaves(expected.train_state._replace(key=())),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)
        np.testing.assert_allclose(
            figures["valid_loss"][index], expected.history.valid_loss, rtol=1e-4
        )
        np.testing.assert_allclose(
            figures["loss"][index], expected.history.loss.reshape(4, 5).mean(1), rtol=1e-4
        )


@pytest.mark.slow
def test_a_run_in_two_parts_is_bitwise_the_run_in_one(key):
    recipes = [recipe(rate) for rate in RATES]
    lanes = lanes_of(recipes, 3)
    whole, figures = lanes.advance(recipes, lanes.start(key, recipes), 4)
    half, first = lanes.advance(recipes, lanes.start(key, recipes), 1)
    both, second = lanes.advance(recipes, half, 3)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(both), strict=True):
        assert (a == b).all()
    for name, rows in figures.items():
        np.testing.assert_array_equal(np.concatenate([first[name], second[name]], 1), rows)


def test_a_diverged_lane_leaves_the_others_bitwise_unchanged(key):
    good = [recipe(rate) for rate in RATES]
    bad = [good[0], recipe(1e38), good[2]]
    lanes = lanes_of(good, 3)
    states, figures = lanes.advance(good, lanes.start(key, good), 4)
    mixed, with_nan = lanes.advance(bad, lanes.start(key, bad), 4)
    assert not np.isfinite(with_nan["valid_loss"][1]).all()
    assert not with_nan["finite"][1].all()
    for index in (0, 2):
        np.testing.assert_array_equal(with_nan["valid_loss"][index], figures["valid_loss"][index])
        for a, b in zip(
            jax.tree.leaves(lanes.take(states, index)),
            jax.tree.leaves(lanes.take(mixed, index)),
            strict=True,
        ):
            assert (a == b).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3])
def test_early_stopping_ends_each_lane_at_its_own_epoch(key, size):
    stopping = train.early_stopping(1)
    recipes = [recipe(rate, early_stopping=stopping) for rate in (1e-3, 0.1, 3.0)]
    lanes = lanes_of(recipes, size)
    states, figures = lanes.advance(recipes, lanes.start(key, recipes), 4)
    finished = lanes.finish(states)
    for index, one in enumerate(recipes):
        expected = run(key, one)
        assert finished.step[index] == expected.train_state.step
        length = len(expected.history.valid_loss)
        np.testing.assert_allclose(
            figures["valid_loss"][index, :length], expected.history.valid_loss, rtol=1e-4
        )
        assert np.isnan(figures["valid_loss"][index, length:]).all()


@pytest.mark.slow
def test_lanes_of_one_structure_share_their_programs(key, monkeypatch):
    traces = []

    def counted(*arguments):
        traces.append(arguments)
        return validate(*arguments)

    monkeypatch.setattr("fnn.search.lanes.validate", counted)

    def train_with(rates, epochs):
        recipes = [recipe(rate) for rate in rates]
        # No other test has this batch size.
        task = prepare_task(recipes[:1], DATA, VALID, epochs=epochs, batch_size=9)
        lanes = Lanes(recipes[0], task, len(recipes), 2)
        lanes.advance(recipes, lanes.start(key, recipes), epochs)

    train_with([0.1, 0.2], epochs=1)
    count = len(traces)
    assert count > 0
    train_with([0.3, 0.4, 0.5, 0.6], epochs=2)
    assert len(traces) == count


def test_lanes_of_one_structure_and_shape_are_measured_once(monkeypatch):
    recipes = [recipe(rate) for rate in np.linspace(0.1, 0.2, 7)]
    measured = []

    def measure(self, width):
        measured.append(width)
        return (0.5 if width > 1 else 1.0), 1

    monkeypatch.setattr(Lanes, "measure", measure)
    assert lanes_of(recipes, "auto").size == 7
    assert lanes_of([recipe(2 * rate) for rate in RATES] * 2 + [recipe(1.0)], "auto").size == 7
    assert measured == [1, 7]


@pytest.mark.slow
def test_measured_memory_grows_with_the_network():
    small = lanes_of([recipe(0.1)], 1)
    big_network = train.recipe(nn.chain(nn.dense(512), nn.dense(3)), optim.adam(0.1))
    big = lanes_of([big_network], 1)
    params = 512 * (5 + 3) * 4
    # Adam has two moments of the size of the parameters.
    assert big.measure(1)[1] > 3 * params
    assert big.measure(1)[1] > small.measure(1)[1]


def test_data_that_does_not_fit_raises_before_anything_compiles():
    with pytest.raises(ConfigError, match="batch"):
        prepare_task([recipe(0.1)], DATA, None, epochs=1, batch_size=41)
    with pytest.raises(ConfigError, match="epochs"):
        prepare_task([recipe(0.1)], DATA, None, epochs=0, batch_size=8)
    with pytest.raises(ConfigError, match="lanes"):
        lanes_of([recipe(0.1)], 0)


def test_an_epoch_of_a_search_leaves_the_arrays_of_instruments_out(key):
    def measure(step):
        return {"measured": step.record.params["dense_0"]["bias"]}

    instruments = Instruments(("measured",), 2, measure, lambda *_: {"measured": ("all",) * 4})
    one = recipe(0.1, instruments=instruments)

    def epoch():
        state = train.start(key, one, (5,))
        return train_epoch(8, one, state, DATA, VALID)

    # Traced, not run.
    _, figures = jax.eval_shape(epoch)
    assert "measured" not in figures and figures["loss"].shape == ()
