"""Tests of frozen params: the same output, and no change in training."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.errors import ConfigError, TreeMismatchError
from fnn.types import Layer

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
    assert names(state["frozen"]) == wanted
    assert (state["body"].keys(), out_shape) == ({"stem"}, (3,))
    assert len(jax.tree.leaves((params, state["frozen"]))) == len(jax.tree.leaves(whole))
    y, new_state = jax.jit(partial(layer.apply, train=True))(params, state, X)
    wanted_y, wanted_state = trained(whole, whole_state, X)
    chex.assert_trees_all_equal(
        (y, new_state), (wanted_y, {"frozen": state["frozen"], "body": wanted_state})
    )


def test_training_changes_all_params_but_the_frozen(key):
    network = nn.chain(nn.freeze(NETWORK, "stem/dense_0", "*/scale"), nn.dense(3))
    recipe = train.recipe(network, optim.adamw(1e-2, weight_decay=0.1))
    data = (np.asarray(X), LABELS)
    before = train.run(jax.random.clone(key), recipe, data, epochs=0, batch_size=4).train_state
    after = train.run(key, recipe, data, epochs=2, batch_size=4).train_state
    chex.assert_trees_all_equal(after.state["chain_0"]["frozen"], before.state["chain_0"]["frozen"])
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, before.params)
    assert all(jax.tree.leaves(moved))
    assert len(jax.tree.leaves(moved)) == 5
    means = [
        done.state["chain_0"]["body"]["stem"]["batch_norm_1"]["mean"] for done in (before, after)
    ]
    assert np.all(means[0] != means[1])


def test_a_frozen_layer_keeps_its_name_and_its_parts(key):
    network = nn.chain(nn.freeze(nn.conv(2)), nn.freeze(nn.tanh()), nn.dense(3))
    params, state, _ = network.init(key, (4, 4, 2))
    assert (list(params), list(state)) == (["dense_2"], ["conv_0"])
    assert nn.take(nn.freeze(NETWORK, "stem"), "head") is nn.take(NETWORK, "head")


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
        layer.apply(params | state["frozen"], state, X)
    with pytest.raises(TreeMismatchError, match="freeze: expected entries among"):
        layer.apply(params, state["frozen"], X)
    with pytest.raises(TreeMismatchError, match=r"dense kernel: .* got no such leaf"):
        layer.apply(params, {"body": state["body"]}, X)
    for odd in ([X, X], X, {"pair": (X, X)}):
        with pytest.raises(TreeMismatchError, match=r"freeze .*: expected arrays in dicts"):
            nn.freeze(Layer(lambda key, shape, odd=odd: (odd, {}, shape), nn.tanh().apply)).init(
                key, (4,)
            )
    with pytest.raises(ConfigError, match="freeze layer: expected a Layer"):
        nn.freeze(nn.relu)
