"""Random and grid search: trials by the key alone, ranks, kept weights, and refused arguments."""

import inspect

import jax
import numpy as np
import pytest

from fnn import nn, optim, search, train
from fnn.errors import ArgumentError, FnnError
from fnn.search.execution import seed_key
from fnn.search.options import FoldOptions, FoldSettings, Options, Settings

draw = np.random.default_rng(0)
X = draw.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
DATA = (X[:40], Y[:40])
VALID = (X[40:], Y[40:])
RUN = {"epochs": 3, "batch_size": 10, "valid": VALID}


def network(units=3, drop_rate=0.1):
    return nn.chain(nn.dense(units), nn.tanh(), nn.dropout(drop_rate), nn.dense(2))


RATE = search.log_uniform(1e-3, 1)
SPACE = train.recipe(network(drop_rate=search.uniform(0, 0.5)), optim.momentum(RATE))


@pytest.fixture(scope="module")
def trials():
    return search.random(jax.random.key(0), SPACE, DATA, **RUN, trials=6, seeds=2, keep=2, lanes=4)


def test_the_score_is_that_of_the_kept_weights(trials):
    for index, states in trials.kept.items():
        for seed, state in enumerate(states):
            figures = train.evaluate(trials.recipes[index], state, VALID, batch_size=10)
            assert figures["loss"] == pytest.approx(trials.scores[index, seed], rel=1e-4)


def test_the_best_trials_are_kept(trials):
    assert set(trials.kept) == set(trials.ranked[:2])
    assert trials.best.index == np.argmin(trials.scores.mean(1))
    assert trials.best.score == trials.scores.mean(1).min()


def test_a_trial_is_a_run_that_can_be_made_again(trials):
    again = eval(repr(trials.best.recipe))
    key = seed_key(jax.random.key(0), 1)
    result = train.run(key, again, DATA, **RUN)
    assert result.history.valid_loss[-1] == pytest.approx(
        trials.scores[trials.best.index, 1], rel=1e-4
    )


def test_hyperparameters_are_those_of_the_recipes(trials):
    assert list(trials.hyperparameters) == ["network.2.drop_rate", "optimizer.rate"]
    for path, column in trials.hyperparameters.items():
        np.testing.assert_array_equal(column, [recipe[path] for recipe in trials.recipes])
    assert trials.best.hyperparameters["optimizer.rate"] == trials.best.recipe["optimizer.rate"]


@pytest.mark.parametrize("lanes", [1, 6, "auto"])
def test_trials_do_not_depend_on_the_number_of_lanes(trials, lanes):
    other = search.random(
        jax.random.key(0), SPACE, DATA, **RUN, trials=6, seeds=2, keep=2, lanes=lanes
    )
    assert other.recipes == trials.recipes
    np.testing.assert_allclose(other.scores, trials.scores, rtol=1e-4)


def test_seeds_differ_and_more_trials_continue_fewer(trials):
    assert (trials.scores[:, 0] != trials.scores[:, 1]).all()
    more = search.random(jax.random.key(0), SPACE, DATA, **RUN, trials=8, lanes=4)
    assert list(more.recipes[:6]) == list(trials.recipes)
    np.testing.assert_allclose(more.scores[:6, 0], trials.scores[:, 0], rtol=1e-4)


def test_diverged_trials_rank_last_and_are_never_the_best():
    space = SPACE.replace(optimizer=optim.momentum(search.choice(0.1, 3.4e38, 0.2, 0.3)))
    trials = search.grid(jax.random.key(0), space, DATA, **RUN, points=1, lanes=4)
    assert not np.isfinite(trials.scores[1, 0])
    assert trials.ranked[-1] == 1
    assert 1 not in trials.kept
    assert "1 diverged" in repr(trials)


@pytest.mark.slow
def test_a_grid_visits_every_combination():
    units = search.choice(2, 3)
    space = train.recipe(network(units), optim.sgd(search.log_uniform(0.01, 1)))
    trials = search.grid(jax.random.key(0), space, DATA, **RUN, points=3, lanes=3)
    rows = set(zip(*trials.hyperparameters.values(), strict=True))
    expected = {(u, r) for u in (2, 3) for r in (0.01, 0.1, 1.0)}
    assert {(u, round(float(r), 6)) for u, r in rows} == expected
    assert len(trials) == 6


@pytest.mark.slow
def test_a_grid_tries_an_option_once_for_values_that_it_does_not_use():
    optimizer = search.choice(optim.sgd(search.log_uniform(0.01, 0.1)), optim.sgd(0.5))
    space = train.recipe(network(2), optimizer)
    trials = search.grid(jax.random.key(0), space, DATA, **RUN, points=2, lanes=1)
    assert [recipe["optimizer.rate"] for recipe in trials.recipes] == [0.01, 0.1, 0.5]
    assert np.isnan(trials.hyperparameters["optimizer.sgd[0].rate"][2])


def test_higher_accuracies_are_better_and_losses_lower():
    options = {**RUN, "trials": 5, "lanes": 4}
    trials = search.random(jax.random.key(0), SPACE, DATA, **options, score="valid_accuracy")
    assert trials.best.score == trials.scores.max()
    turned = search.random(
        jax.random.key(0), SPACE, DATA, **options, score="valid_accuracy", mode="min"
    )
    assert turned.best.score == trials.scores.min()


@pytest.mark.slow
def test_early_stopping_scores_the_weights_that_are_kept():
    recipe = SPACE.replace(early_stopping=train.early_stopping(1))
    trials = search.random(jax.random.key(0), recipe, DATA, **RUN, trials=4, keep=4, lanes=4)
    for index, (state,) in trials.kept.items():
        figures = train.evaluate(trials.recipes[index], state, VALID, batch_size=10)
        assert figures["loss"] == pytest.approx(trials.scores[index, 0], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "settings"), [(Options, Settings), (FoldOptions, FoldSettings)]
)
def test_the_declared_options_are_those_of_the_settings(options, settings):
    assert list(options.__annotations__) == list(inspect.signature(settings).parameters)


def call(space=SPACE, **changes):
    arguments = RUN | {"trials": 2} | changes
    return lambda: search.random(jax.random.key(0), space, DATA, **arguments)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (call(train.recipe(network(), optim.sgd(0.1))), "at least one distribution"),
        (call(0.1), r"a recipe or a search\.space"),
        (
            lambda: jax.vmap(lambda key: search.random(key, SPACE, DATA, **RUN, trials=2))(
                jax.random.split(jax.random.key(0))
            ),
            "search key: .*traced",
        ),
        (call(trials=0), "trials"),
        (call(epochs=0), "epochs"),
        (call(batch_size=41), "batch"),
        (call(seeds=0), "seeds"),
        (call(keep=-1), "keep"),
        (call(lanes="many"), "lanes"),
        (call(sampler="latin"), "sampler"),
        (call(score="valid_f1"), "score.*valid_accuracy"),
        (call(valid=None), "give valid="),
        (call(mode="best"), "mode"),
        (
            lambda: search.grid(jax.random.key(0), SPACE, DATA, **RUN, sampler="sobol"),
            "grid sampler: expected one of .*, got 'sampler'; leave it out",
        ),
        (
            call(
                SPACE.replace(optimizer=optim.momentum(search.choice(3.3e38, 3.4e38))),
                trials=4,
                lanes=4,
            ),
            "finite",
        ),
        (lambda: search.grid(jax.random.key(0), SPACE, DATA, **RUN, points={"rate": 2}), "path"),
        (lambda: search.grid(jax.random.key(0), SPACE, DATA, **RUN, points=0), "points"),
    ],
)
def test_wrong_arguments_raise_an_error_that_names_them(make, match):
    with pytest.raises(FnnError, match=match):
        make()


def test_misspelled_options_raise_an_error():
    with pytest.raises(ArgumentError, match=r"random seed.*seeds"):
        call(seed=3)()
