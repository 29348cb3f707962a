"""Averages of members against means of arrays, and greedy soups against their rule."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import ensemble, nn, objective, train
from fnn.errors import ConfigError, NonFiniteError, ShapeError
from fnn.types import Weights

draw = np.random.default_rng(0)
X = draw.normal(size=(16, 3)).astype(np.float32)
TRUE = np.float32([1, -2, 0.5])
Y = X @ TRUE[:, None]
RECIPE = train.recipe(nn.dense(1, use_bias=False), loss=objective.squared_error)


def line(*slopes):
    return Weights({"kernel": jnp.float32(slopes)[:, None]}, {})


def assert_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def test_an_average_is_the_weighted_mean_of_params_and_state():
    network = nn.chain(nn.dense(2), nn.batch_norm())
    given = []
    for seed in range(3):
        params, state, _ = network.init(jax.random.key(seed), (3,))
        given.append(Weights(params, jax.tree.map(lambda leaf, seed=seed: leaf + seed, state)))
    members = ensemble.collect(train.recipe(network), given)
    for weights in (None, [1, 0, 3], jnp.array([0.2, 0.5, 0.1])):
        expected = jax.tree.map(
            lambda *leaves, w=weights: np.average(np.stack(leaves), 0, w), *given
        )
        found = ensemble.average(members, weights)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), found, expected)
    one = ensemble.average(members, [0, 1, 0])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), one, given[1])


def test_the_average_of_equal_members_is_the_member_to_the_last_bit():
    one = line(0.1, 0.7, 1e-8)
    half = Weights(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), one.params), {})
    for given in (one, half):
        members = ensemble.collect(RECIPE, [given] * 7)
        assert_equal(ensemble.average(members), given)
        assert_equal(ensemble.average(members, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]), given)


def test_a_greedy_soup_adds_a_member_only_where_the_score_gets_better():
    # The first two lie around the truth, the third is far away.
    given = [line(1.3, -2, 0.5), line(0.8, -2, 0.5), line(9, 9, 9)]
    soup = ensemble.greedy_soup(ensemble.collect(RECIPE, given), (X, Y))
    assert soup.chosen == (1, 0)
    np.testing.assert_allclose(soup.weights.params["kernel"][:, 0], [1.05, -2, 0.5], rtol=1e-6)
    assert soup.score < soup.scores.min()
    np.testing.assert_allclose(
        soup.score, train.evaluate(soup.recipe, soup.weights, (X, Y))["loss"], rtol=1e-6
    )
    assert str(soup).startswith("soup of 2 of 3 members: 1, 0\nvalid_loss ")


def test_a_soup_is_the_average_of_its_members_and_reads_each_once(monkeypatch):
    # In other directions from the truth, so that each one improves the soup.
    given = [line(1.1, -2, 0.5), line(1, -2.11, 0.5), line(1, -2, 0.38), line(9, 9, 9)]
    members = ensemble.collect(RECIPE, given)
    reads = []
    read = ensemble.Members._member
    monkeypatch.setattr(
        ensemble.Members, "_member", lambda self, index: reads.append(index) or read(self, index)
    )
    soup = ensemble.greedy_soup(members, (X, Y))
    # To score each member, to begin with the best one, and to try each other one.
    assert len(reads) == 1 + 2 * len(given)
    assert len(soup.chosen) == 3
    expected = ensemble.average(members[list(soup.chosen)])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), soup.weights, expected)


def test_a_soup_of_identical_members_is_the_member():
    one = line(1.3, -2, 0.5)
    soup = ensemble.greedy_soup(ensemble.collect(RECIPE, [one] * 3), (X, Y))
    assert soup.chosen == (0,) and soup.score == soup.scores[0]
    assert_equal(soup.weights, one)


@pytest.mark.parametrize("seed", range(3))
def test_a_soup_is_never_worse_than_the_best_member(seed):
    slopes = np.random.default_rng(seed).normal(TRUE, 1, (5, 3))
    members = ensemble.collect(RECIPE, [line(*row) for row in slopes])
    soup = ensemble.greedy_soup(members, (X, Y))
    assert soup.score <= soup.scores.min()
    # By hand: one pass over the sorted members.
    chosen, best = [], np.inf
    for index in np.argsort(soup.scores):
        error = np.mean((X @ slopes[[*chosen, index]].mean(0) - Y[:, 0]) ** 2)
        if error < best:
            chosen, best = [*chosen, int(index)], error
    assert soup.chosen == tuple(chosen)
    np.testing.assert_allclose(soup.score, best, rtol=1e-5)


def test_a_metric_of_which_higher_is_better_and_diverged_members():
    labels = (X[:, 0] > 0).astype(np.int32)
    recipe = train.recipe(nn.dense(2, use_bias=False))

    def member(*row):
        kernel = jnp.zeros((3, 2)).at[:, 1].set(jnp.float32(row))
        return Weights({"kernel": kernel}, {})

    given = [member(np.nan, 0, 0), member(-1, 0, 0), member(1, 0, 0), member(2, 0, 0)]
    members = ensemble.collect(recipe, given)
    soup = ensemble.greedy_soup(members, (X, labels), score="valid_accuracy")
    # Equal scores are not better.
    assert soup.chosen == (2,) and soup.score == 1
    with pytest.raises(NonFiniteError, match="greedy_soup valid_accuracy: expected a finite score"):
        ensemble.greedy_soup(members[:1], (X, labels), score="valid_accuracy")


def test_averages_are_refreshed_before_they_are_scored():
    calls = []

    def refresh(weights):
        calls.append(weights)
        return line(*TRUE)

    given = [line(1.3, -2, 0.5), line(0.8, -2, 0.5)]
    soup = ensemble.greedy_soup(ensemble.collect(RECIPE, given), (X, Y), refresh=refresh)
    assert len(calls) == 1
    assert_equal(soup.weights, line(*TRUE))


def test_wrong_arguments_raise():
    members = ensemble.collect(RECIPE, [line(1, 2, 3)] * 2)
    for weights, error, message in [
        ([1, 2, 3], ShapeError, "average weights: expected one weight for each of 2 members, got"),
        ([1, -1], ConfigError, "average weights: expected finite weights >= 0, got"),
        ([0, 0], ConfigError, "average weights: expected finite weights >= 0, got"),
        ("equal", ConfigError, "average weights: expected a number for each member, got 'equal'"),
    ]:
        with pytest.raises(error, match=message):
            ensemble.average(members, weights)
    with pytest.raises(ConfigError, match="average members: expected Members from"):
        ensemble.average(line(1, 2, 3))
    with pytest.raises(ConfigError, match="greedy_soup score: expected one of valid_loss, got"):
        ensemble.greedy_soup(members, (X, Y), score="accuracy")
    with pytest.raises(ConfigError, match="greedy_soup refresh: expected Weights, got"):
        ensemble.greedy_soup(members, (X, Y), refresh=lambda weights: weights.params)
    with pytest.raises(ConfigError, match="greedy_soup refresh: expected a function, got True"):
        ensemble.greedy_soup(members, (X, Y), refresh=True)
    wide = train.recipe(nn.dense(2), loss=objective.squared_error)
    params, state, _ = wide.network.init(jax.random.key(0), (3,))
    mixed = ensemble.collect([RECIPE, wide], [line(1, 2, 3), Weights(params, state)])
    with pytest.raises(ConfigError, match="members of one structure, got 2 structures"):
        ensemble.average(mixed)


def test_a_figure_of_training_is_no_score():
    members = ensemble.collect(RECIPE, [line(1, -2, 0.5)])
    message = "greedy_soup score: expected one of valid_loss, got 'loss'"
    with pytest.raises(ConfigError, match=message):
        ensemble.greedy_soup(members, (X, Y), score="loss")


def test_traced_members_raise():
    members = ensemble.collect(RECIPE, [line(1, -2, 0.5)])
    with pytest.raises(ConfigError, match="greedy_soup members: expected known numbers"):
        jax.jit(lambda members: ensemble.greedy_soup(members, (X, Y)).weights)(members)
