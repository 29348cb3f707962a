"""Members: collected in any form, they are the networks that were given, and predict like them."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import ensemble, nn, optim, search, train
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError
from fnn.types import Layer, Weights

draw = np.random.default_rng(0)
X = draw.normal(size=(7, 5)).astype(np.float32)
Y = draw.integers(0, 3, 7)
RECIPE = train.recipe(nn.chain(nn.dense(4), nn.batch_norm(), nn.dense(3)), optim.sgd(0.1))
DEEP = train.recipe(nn.chain(nn.dense(4), nn.tanh(), nn.dense(6), nn.dense(3)))


def weights(seed, recipe=RECIPE, shape=(5,)):
    params, state, _ = recipe.network.init(jax.random.key(seed), shape)
    return Weights(params, state)


def states(count):
    return [train.start(jax.random.key(seed), RECIPE, (5,)) for seed in range(count)]


def assert_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def test_members_are_the_networks_that_were_collected():
    given = [weights(seed) for seed in range(3)]
    members = ensemble.collect(RECIPE, given)
    assert len(members) == 3 and len(list(members)) == 3
    for member, one in zip(members, given, strict=True):
        assert member.recipe is RECIPE
        assert_equal(member.weights, one)
    assert_equal(members[-1].weights, given[2])
    assert members.recipe is RECIPE
    assert members.weights.params["dense_0"]["kernel"].shape == (3, 5, 4)
    assert repr(members) == "Members(3 of 47 parameters)"
    with pytest.raises(IndexError):
        members[3]


def test_stacked_train_states_are_those_of_a_list():
    given = states(3)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *given)
    one, other = ensemble.collect(RECIPE, given), ensemble.collect(RECIPE, stacked)
    assert_equal(one.weights, other.weights)
    by_recipe = ensemble.collect([RECIPE] * 3, Weights(stacked.params, stacked.state))
    assert_equal(one.weights, by_recipe.weights)


def test_the_average_of_each_train_state_is_collected():
    recipe = train.recipe(nn.dense(3), optim.ema(optim.sgd(0.5), 0.9))

    def run(key):
        return train.run(key, recipe, (X, Y), epochs=2, batch_size=4).train_state

    keys = jax.random.split(jax.random.key(0), 2)
    stacked = jax.jit(jax.vmap(run))(keys)
    members = ensemble.collect(recipe, stacked)
    for index, member in enumerate(members):
        expected = train.weights(recipe, jax.tree.map(operator.itemgetter(index), stacked))
        jax.tree.map(np.testing.assert_allclose, member.weights, expected)
        assert not np.allclose(
            member.weights.params["kernel"], stacked.params["kernel"][index], rtol=1e-3
        )


@pytest.mark.slow
def test_the_best_networks_of_a_search_are_members(key):
    space = train.recipe(nn.chain(nn.dense(4), nn.dense(3)), optim.sgd(search.uniform(0.1, 0.5)))
    data = (X, Y)
    trials = search.random(key, space, data, valid=data, epochs=2, batch_size=4, trials=4, keep=3)
    members = ensemble.collect(*trials.networks(3))
    assert [one.recipe for one in members] == [trials.recipes[i] for i in trials.ranked[:3]]
    losses = ensemble.evaluate(members, data).members["loss"]
    expected = [trials.mean_scores[i] for i in trials.ranked[:3]]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_members_of_several_structures_and_numbers_predict_in_their_order():
    scaled = [
        train.recipe(nn.chain(nn.dense(3), nn.leaky_relu(slope)), prepare=lambda x: x)
        for slope in (0.1,)
    ]
    scaled.append(scaled[0].replace_at("network.1.slope", 0.5))
    recipes = [scaled[0], DEEP, scaled[1], DEEP]
    given = [weights(seed, recipe) for seed, recipe in enumerate(recipes)]
    members = ensemble.collect(recipes, given)
    assert repr(members) == "Members(2 of 18 parameters, 2 of 75 parameters)"
    outputs = ensemble.predict(members, X, batch_size=4)
    assert outputs.shape == (4, 7, 3)
    for index, (recipe, own) in enumerate(zip(recipes, given, strict=True)):
        expected = train.predict(recipe, own, X, batch_size=4)
        np.testing.assert_allclose(outputs[index], expected, rtol=1e-5, atol=1e-6)
        assert members[index].recipe == recipe
    with pytest.raises(ConfigError, match=r"members weights: expected members of one structure"):
        _ = members.weights
    chosen = members[[2, 0]]
    np.testing.assert_array_equal(
        ensemble.predict(chosen, X, batch_size=4), np.asarray(outputs)[[2, 0]]
    )
    mask = np.array([False, True, True, False])
    assert [one.recipe for one in members[mask]] == [DEEP, scaled[1]]
    assert [one.recipe for one in members[1:3]] == [DEEP, scaled[1]]


def test_equal_members_predict_alike_to_the_last_bit():
    members = ensemble.collect(RECIPE, [weights(0)] * 3)
    outputs = ensemble.predict(members, X)
    np.testing.assert_array_equal(outputs[1], outputs[0])
    np.testing.assert_array_equal(outputs[2], outputs[0])


def test_each_member_samples_with_a_key_of_its_own(key):
    def apply(params, state, x, *, key=None, train=False):
        return x + jax.random.normal(key, x.shape, x.dtype), state

    noise = Layer(lambda key, shape: ({}, {}, shape), apply)
    recipe = train.recipe(noise)
    members = ensemble.collect([recipe, recipe], [Weights({}, {})] * 2)
    outputs = ensemble.predict(members, X, key=key)
    for index in range(2):
        own = jax.random.fold_in(key, index)
        expected = train.predict(recipe, Weights({}, {}), X, key=own)
        np.testing.assert_allclose(outputs[index], expected, rtol=1e-6)
    assert not np.allclose(outputs[0], outputs[1])


def test_members_are_a_pytree():
    members = ensemble.collect(RECIPE, [weights(seed) for seed in range(2)])

    @jax.jit
    def total(members):
        return ensemble.predict(members, X).sum()

    expected = ensemble.predict(members, X).sum()
    np.testing.assert_allclose(total(members), expected, rtol=1e-4, atol=1e-5)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, members)
    assert_equal(
        doubled.weights.params, jax.tree.map(lambda leaf: 2 * leaf, members.weights.params)
    )


@pytest.mark.parametrize(
    ("recipe", "given", "error", "message"),
    [
        (RECIPE, [], ConfigError, "collect weights: expected train states or Weights of at least"),
        ([], [weights(0)], ConfigError, "collect recipe: expected a recipe from train.recipe"),
        (nn.dense(3), [weights(0)], ConfigError, "collect recipe: expected a recipe"),
        ([RECIPE], [weights(0)] * 2, ConfigError, "one recipe, or one for each of 2 members"),
        (RECIPE, weights(0), ShapeError, r"collect weights params/.*as in \[result.train_state\]"),
        (RECIPE, [weights(0).params], ConfigError, "collect weights 0 train_state: .*got dict"),
        (
            RECIPE,
            [weights(0), weights(0, shape=(6,))],
            TreeMismatchError,
            r"collect weights 1 params/dense_0/kernel: expected float32\[5,4\]",
        ),
        (RECIPE, [weights(0), weights(0, DEEP)], TreeMismatchError, "collect weights 1"),
    ],
)
def test_wrong_arguments_of_collect_raise(recipe, given, error, message):
    with pytest.raises(error, match=message):
        ensemble.collect(recipe, given)


def test_results_in_the_place_of_train_states_raise(key):
    result = train.run(key, RECIPE, (X, Y), epochs=0, batch_size=4)
    with pytest.raises(ConfigError, match=r"collect weights: .*got a Result"):
        ensemble.collect(RECIPE, result)
    with pytest.raises(
        ConfigError, match=r"collect weights 0 .*got a Result; give result.train_st"
    ):
        ensemble.collect(RECIPE, [result])


def test_wrong_arguments_of_predict_raise():
    members = ensemble.collect(RECIPE, [weights(0)])
    with pytest.raises(ConfigError, match=r"predict members: expected Members .*got a Weights"):
        ensemble.predict(weights(0), X)
    with pytest.raises(ConfigError, match="predict batch_size: expected >= 1, got 0"):
        ensemble.predict(members, X, batch_size=0)
    with pytest.raises(DTypeError, match="predict key"):
        ensemble.predict(members, X, key=0)
    with pytest.raises(ConfigError, match="members index: expected at least one member"):
        members[5:]
    other = train.recipe(nn.dense(2))
    mixed = ensemble.collect([RECIPE, other], [weights(0), weights(0, other)])
    with pytest.raises(TreeMismatchError, match=r"predict member 1 outputs: expected float32\[7,3"):
        ensemble.predict(mixed, X)


def test_an_index_of_several_axes_and_donated_members_raise():
    members = ensemble.collect(RECIPE, [weights(0), weights(1)])
    for index in (True, [[0, 1]]):
        with pytest.raises(ConfigError, match="members index: expected an int, a slice"):
            _ = members[index]
    jax.tree.map(lambda leaf: leaf.delete(), members.weights)
    with pytest.raises(ConfigError, match="members: expected arrays that exist"):
        _ = members[0]
