"""Tests of frozen params: the same output, and no change in training."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.errors import ConfigError, TreeMismatchError
from fnn.types import FROZEN, Layer

X = jnp.float32(np.random.default_rng(0).normal(size=(8, 4)))
LABELS = np.arange(8) % 3
NETWORK = nn.chain(stem=nn.chain(nn.dense(4), nn.batch_norm()), head=nn.dense(3))
STEM = {"dense_0": {"kernel", "bias"}, "batch_norm_1": {"scale", "bias"}}
BIASES = {"stem": {"dense_0": {"kernel", "bias"}, "batch_norm_1": {"bias"}}, "head": {"bias"}}
PATHS = {
    "all": ((), {"stem": STEM, "head": {"kernel", "bias"}}),
    "a part": (("stem",), {"stem": STEM}),
    "a leaf": (("head/kernel",), {"head": {"kernel"}}),
    "many": (("*/bias", "stem/dense_0/kernel"), BIASES),
}


def names(tree):
    """The names of the leaves, in sets at the ends of the dicts."""
    if all(isinstance(part, dict) for part in tree.values()):
        return {name: names(part) for name, part in tree.items()}
    return set(tree)


trained = jax.jit(partial(NETWORK.apply, train=True))


@pytest.mark.parametrize("case", PATHS)
def test_frozen_params_move_to_the_state_and_give_the_same_output(case, key):
    paths, wanted = PATHS[case]
    whole, whole_state, _ = NETWORK.init(key, (4,))
    layer = nn.freeze(NETWORK, *paths)
    params, state, out_shape = layer.init(jax.random.clone(key), (4,))
    assert names(state[FROZEN]) == wanted
    assert (state.keys(), out_shape) == ({FROZEN, "stem"}, (3,))
    assert len(jax.tree.leaves((params, state[FROZEN]))) == len(jax.tree.leaves(whole))
    y, new_state = jax.jit(partial(layer.apply, train=True))(params, state, X)
    wanted_y, wanted_state = trained(whole, whole_state, X)
    chex.assert_trees_all_equal((y, new_state), (wanted_y, wanted_state | {FROZEN: state[FROZEN]}))


@pytest.mark.slow
def test_training_changes_all_params_but_the_frozen(key):
    network = nn.chain(nn.freeze(NETWORK, "stem/dense_0", "*/scale"), nn.dense(3))
    recipe = train.recipe(network, optim.adamw(1e-2, weight_decay=0.1))
    data = (np.asarray(X), LABELS)
    before = train.run(jax.random.clone(key), recipe, data, epochs=0, batch_size=4).train_state
    after = train.run(key, recipe, data, epochs=2, batch_size=4).train_state
    chex.assert_trees_all_equal(after.state["chain_0"][FROZEN], before.state["chain_0"][FROZEN])
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, before.params)
    assert all(jax.tree.leaves(moved))
    assert len(jax.tree.leaves(moved)) == 5
    means = [done.state["chain_0"]["stem"]["batch_norm_1"]["mean"] for done in (before, after)]
    assert np.all(means[0] != means[1])


def test_a_frozen_layer_keeps_its_name_and_its_parts(key):
    network = nn.chain(nn.freeze(nn.conv(2)), nn.freeze(nn.tanh()), nn.dense(3))
    params, state, _ = network.init(key, (4, 4, 2))
    assert (list(params), list(state)) == (["dense_2"], ["conv_0"])
    assert nn.take(nn.freeze(NETWORK, "stem"), "head") is nn.take(NETWORK, "head")


FREEZES = {
    "nothing": NETWORK,
    "all": nn.freeze(NETWORK),
    "a part": nn.freeze(NETWORK, "stem"),
    "leaves": nn.freeze(NETWORK, "*/bias", "head"),
    "twice": nn.freeze(nn.freeze(NETWORK, "*/bias"), "stem/dense_0"),
    "inside": nn.replace(NETWORK, "stem", nn.freeze(nn.take(NETWORK, "stem"), "batch_norm_1")),
    "inside and outside": nn.freeze(nn.replace(NETWORK, "head", nn.freeze(nn.dense(3))), "stem"),
    "evaluation mode": nn.inference(NETWORK, "stem"),
    "under cast": nn.cast(nn.freeze(NETWORK, "stem")),
}


@pytest.mark.parametrize("case", FREEZES)
def test_unfreeze_gives_the_params_and_the_state_of_the_network(case, key):
    params, state, _ = FREEZES[case].init(key, (4,))
    wanted = NETWORK.init(jax.random.clone(key), (4,))[:2]
    chex.assert_trees_all_equal(nn.unfreeze(params, state), wanted)


@pytest.mark.parametrize(
    "wrap",
    [
        partial(nn.activity_regularizer, penalty=jnp.sum),
        nn.remat,
        partial(nn.repeat, n=2),
        partial(nn.ensemble, n=2),
        lambda layer: nn.spectral_norm(nn.chain(nn.dense(4), layer)),
    ],
)
def test_unfreeze_reaches_into_other_transforms(wrap, key):
    params, state, _ = wrap(nn.freeze(nn.dense(4), "bias")).init(key, (4,))
    wanted = wrap(nn.dense(4)).init(jax.random.clone(key), (4,))[:2]
    chex.assert_trees_all_equal(nn.unfreeze(params, state), wanted)


def test_linear_probing_and_then_fine_tuning(key):
    """The second run begins with the outputs that the first ended with, and trains everything."""
    probing = train.recipe(nn.inference(NETWORK, "stem"), optim.adam(1e-2))
    data = (np.asarray(X), LABELS)
    probed = train.run(key, probing, data, epochs=2, batch_size=4).train_state
    params, state = nn.unfreeze(probed.params, probed.state)
    tuning = probing.replace(network=nn.pretrained(NETWORK, params, state))
    tuned = train.start(jax.random.clone(key), tuning, (4,))
    chex.assert_trees_all_equal((tuned.params, tuned.state), (params, state))
    before = train.predict(probing, probed, data[0])
    np.testing.assert_array_equal(train.predict(tuning, tuned, data[0]), before)
    assert params.keys() == {"stem", "head"}


def test_a_leaf_that_is_trained_and_frozen_cannot_be_unfrozen():
    kernel = {"kernel": jnp.ones((2, 2))}
    with pytest.raises(TreeMismatchError, match=r"unfreeze/kernel: .* in both"):
        nn.unfreeze(kernel, {FROZEN: kernel})


@pytest.mark.parametrize("name", ["frozen", "body", "penalty"])
@pytest.mark.parametrize("wrap", [nn.cast, lambda network: network])
def test_a_part_of_any_name_is_trained_alike(name, wrap, key):
    recipe = train.recipe(
        wrap(nn.chain(**{name: nn.chain(nn.batch_norm(), nn.dense(2))})), optim.sgd(0.1)
    )
    done = train.run(key, recipe, (np.asarray(X), LABELS % 2), epochs=2, batch_size=4)
    means = done.train_state.state[name]["batch_norm_0"]["mean"]
    plain = recipe.replace(network=wrap(nn.chain(part=nn.chain(nn.batch_norm(), nn.dense(2)))))
    wanted = train.run(
        jax.random.clone(key), plain, (np.asarray(X), LABELS % 2), epochs=2, batch_size=4
    )
    chex.assert_trees_all_equal(means, wanted.train_state.state["part"]["batch_norm_0"]["mean"])
    assert np.all(means != 0)


def test_no_part_has_the_name_of_the_frozen_params():
    with pytest.raises(ConfigError, match=r"chain: expected names of parts, got '\(frozen\)'"):
        nn.chain(**{FROZEN: nn.tanh()})


def test_a_path_that_matches_nothing_raises(key):
    with pytest.raises(
        ConfigError, match=r"freeze path: expected a path among .*'head/bias'.* got 'haed'"
    ):
        nn.freeze(NETWORK, "haed").init(key, (4,))
    with pytest.raises(ConfigError, match="freeze path"):
        nn.freeze(nn.tanh(), "kernel").init(jax.random.clone(key), (4,))


def test_params_of_another_structure_raise(key):
    layer = nn.freeze(NETWORK, "stem")
    params, state, _ = layer.init(key, (4,))
    with pytest.raises(TreeMismatchError, match=r"freeze/stem/.*: .* in both"):
        layer.apply(params | state[FROZEN], state, X)
    for part in (state[FROZEN], {"stem": state["stem"]}):
        with pytest.raises(TreeMismatchError, match=r"dense kernel: .* got no such leaf"):
            layer.apply(params, part, X)
    for odd in ([X, X], X, {"pair": (X, X)}):
        with pytest.raises(TreeMismatchError, match=r"freeze .*: expected arrays in dicts"):
            nn.freeze(Layer(lambda key, shape, odd=odd: (odd, {}, shape), nn.tanh().apply)).init(
                key, (4,)
            )
    with pytest.raises(ConfigError, match="freeze layer: expected a Layer"):
        nn.freeze(nn.relu)
