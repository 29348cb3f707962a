"""Halving and Hyperband: figures of random search, decisions by the scores, refused arguments."""

import jax
import numpy as np
import pytest

from fnn import nn, objective, optim, search, train
from fnn.errors import ConfigError, FnnError, NonFiniteError
from fnn.search.brackets import halving_bracket, plan_stages
from fnn.search.lanes import Lanes
from fnn.search.options import Settings
from fnn.search.rungs import run_brackets

pytestmark = pytest.mark.slow

draw = np.random.default_rng(0)
X = draw.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
DATA = (X[:40], Y[:40])
VALID = (X[40:], Y[40:])
RUN = {"epochs": 9, "batch_size": 10, "valid": VALID, "lanes": 3}
SPACE = train.recipe(
    nn.chain(nn.dense(3), nn.tanh(), nn.dense(2)), optim.momentum(search.log_uniform(1e-3, 1))
)
MATRIX = SPACE.replace(metrics={"matrix": objective.confusion_matrix(2)})
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def halved():
    return search.halving(KEY, SPACE, DATA, **RUN, trials=9, seeds=2, keep=3)


@pytest.fixture(scope="module")
def alone():
    return search.random(KEY, SPACE, DATA, **RUN, trials=9, seeds=2)


def test_figures_are_those_of_random_search_as_far_as_trained(halved, alone):
    assert list(halved.recipes) == list(alone.recipes)
    for name, values in halved.histories.items():
        trained = np.arange(9) < halved.epochs[:, None, None]
        trained = np.broadcast_to(trained, values.shape)
        np.testing.assert_array_equal(values[trained], alone.histories[name][trained])
        assert np.isnan(values[~trained]).all()


def test_the_best_third_of_each_rung_continues(halved, alone):
    losses = alone.histories["valid_loss"].mean(1)
    first = np.argsort(losses[:, 0])[:3]
    second = first[np.argsort(losses[first, 2])[:1]]
    expected = np.ones(9)
    expected[first] = 3
    expected[second] = 9
    np.testing.assert_array_equal(halved.epochs, expected)
    assert halved.total_epochs == 2 * (9 + 3 * 2 + 6)
    assert halved.best.index == second[0]
    assert set(halved.ranked[:3]) == set(first)


def test_the_score_is_that_of_the_last_epoch_and_of_the_kept_weights(halved):
    rows = halved.histories["valid_loss"]
    last = rows[np.arange(9), :, halved.epochs - 1]
    np.testing.assert_array_equal(halved.scores, last)
    assert set(halved.kept) == set(halved.ranked[:3])
    for index, states in halved.kept.items():
        for seed, state in enumerate(states):
            assert state.step == 4 * halved.epochs[index]
            figures = train.evaluate(halved.recipes[index], state, VALID, batch_size=10)
            assert figures["loss"] == pytest.approx(halved.scores[index, seed], rel=1e-4)


def run_drawn(drawn):
    plan = (halving_bracket(len(drawn), 9),)
    return run_brackets(KEY, search_space(), drawn, DATA, plan, 10, VALID, Settings(lanes=3))


def search_space():
    return search.space(lambda rate: SPACE, rate=search.uniform(0, 1))


def draw_rates(rates):
    return [(SPACE.replace(optimizer=optim.momentum(rate)), {"rate": rate}) for rate in rates]


def test_permuted_trials_have_permuted_results(halved):
    rates = [recipe["optimizer.rate"] for recipe in halved.recipes]
    order = np.random.default_rng(1).permutation(9)
    first = run_drawn(draw_rates(rates))
    second = run_drawn(draw_rates([rates[index] for index in order]))
    np.testing.assert_array_equal(second.epochs, first.epochs[order])
    np.testing.assert_array_equal(second.scores, first.scores[order])


def test_statistics_compare_no_scores_of_different_epochs(halved):
    with pytest.raises(ConfigError, match="stopped at different epochs"):
        halved.best_of_n()
    assert set(halved.ties()) <= set(np.flatnonzero(halved.epochs == 9))
    assert halved.ties()[0] == halved.best.index
    # A trial that was trained longer is better, whatever the scores.
    costs = halved._costs
    for epochs in (3, 9):
        longer = costs[halved.epochs >= epochs]
        assert longer.max() < costs[halved.epochs < epochs].min()
    assert "not defined" in halved.summary()


def test_diverged_trials_never_survive():
    rates = [3.4e38, 0.1, 3.4e38, 3.4e38, 3.4e38, 0.2, 3.4e38, 3.4e38, 3.4e38]
    trials = run_drawn(draw_rates(rates))
    assert trials.epochs.tolist() == [1, 3, 1, 1, 1, 9, 1, 1, 1] or trials.best.index == 1
    assert trials.epochs.sum() == 7 + 3 + 9
    assert set(trials.ranked[:2]) == {1, 5}
    with pytest.raises(NonFiniteError, match="a finite score of at least one trial"):
        run_drawn(draw_rates([3.4e38] * 9))


def test_structures_and_early_stopping_compete_in_one_rung():
    space = SPACE.replace(
        network=nn.chain(nn.dense(search.choice(2, 3)), nn.tanh(), nn.dense(2)),
        early_stopping=train.early_stopping(2),
    )
    trials = search.halving(KEY, space, DATA, **RUN, trials=9)
    assert sorted(trials.epochs) == [1] * 6 + [3] * 2 + [9]
    best = trials.best
    finished = int(best.train_states[0].step) // 4
    # Early stopping returns the weights of its best epoch.
    assert best.score == trials.histories["valid_loss"][best.index, 0, finished - 1]


def test_hyperband_trains_its_brackets_together():
    trials = search.hyperband(KEY, SPACE, DATA, **RUN)
    assert np.bincount(trials.bracket).tolist() == [9, 5, 3]
    assert trials.total_epochs == sum(one.total_epochs for one in trials.brackets)
    assert [tuple(stage) for stage in plan_stages(trials.brackets)] == [
        (17, 1, 1), (11, 2, 3), (5, 6, 9)
    ]  # fmt: skip
    for index, bracket in enumerate(trials.brackets):
        epochs = trials.epochs[trials.bracket == index]
        for rung in bracket.rungs:
            assert (epochs >= rung.epochs).sum() == rung.trials
    assert trials.epochs[trials.best.index] == 9
    assert trials.table()["bracket"].tolist() == trials.bracket.tolist()


def test_any_number_of_trials_and_brackets_shares_one_program():
    traces = []

    def prepare(x):
        traces.append(1)
        return x

    space = SPACE.replace(prepare=prepare)
    search.halving(KEY, space, DATA, **RUN, trials=5)
    count = len(traces)
    assert count > 0
    search.halving(jax.random.key(1), space, DATA, **RUN, trials=13)
    search.hyperband(KEY, space, DATA, **RUN)
    assert len(traces) == count


def test_a_confusion_matrix_has_its_axes_at_the_end_of_the_histories():
    run = RUN | {"epochs": 3}
    stopped = search.halving(KEY, MATRIX, DATA, **run, trials=3).histories["valid_matrix"]
    whole = search.random(KEY, MATRIX, DATA, **run, trials=3).histories["valid_matrix"]
    assert stopped.shape == whole.shape == (3, 1, 3, 2, 2)
    assert (whole.sum((-2, -1)) == len(VALID[1])).all()
    np.testing.assert_array_equal(stopped[:, :, 0], whole[:, :, 0])
    assert np.isnan(stopped[:, :, 1:]).all((-2, -1)).sum() == 4


WRONG = {
    "eta": ({"eta": 1}, "halving eta: expected >= 2"),
    "few trials": ({"trials": 2}, "halving trials: expected at least eta = 3, got 2"),
    "few epochs": ({"epochs": 2}, "halving min_epochs: expected at most epochs / eta = 2 / 3"),
    "min_epochs": ({"min_epochs": 10}, "halving min_epochs: expected at most"),
    "no valid": ({"valid": None}, "search score"),
    "option": ({"seed": 2}, "seed"),
    "sampler": ({"sampler": "grid"}, "sampler"),
    "array": (
        {"space": MATRIX, "score": "valid_matrix", "mode": "max"},
        "search score: expected one number, as valid_loss, got valid_matrix of shape",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_raise_before_anything_compiles(name, monkeypatch):
    monkeypatch.setattr(Lanes, "__init__", None)
    options, message = WRONG[name]
    with pytest.raises(FnnError, match=message):
        search.halving(data=DATA, key=KEY, **({**RUN, "space": SPACE, "trials": 9} | options))


def test_a_recipe_without_hyperparameters_raises():
    recipe = SPACE.replace(optimizer=optim.sgd(0.1))
    with pytest.raises(ConfigError, match="at least one distribution"):
        search.hyperband(KEY, recipe, DATA, **RUN)
