"""Tests of take, replace and pretrained: parts of a network by the paths of their params."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.errors import ConfigError, TreeMismatchError
from fnn.types import FROZEN

X = jnp.float32(np.random.default_rng(0).normal(size=(3, 4)))
LEAF, OTHER = nn.dense(4), nn.dense(4, use_bias=False)
NETWORKS = {
    "conv_0": nn.chain(conv_0=LEAF),
    "a/body/b": nn.chain(a=nn.residual(nn.chain(nn.tanh(), b=LEAF))),
    "shortcut": nn.residual(nn.tanh(), LEAF),
    "left": nn.parallel(left=LEAF, right=nn.tanh(), join="sum"),
    "h/body": nn.graph(h=(nn.residual(LEAF), "x"), y=(nn.add(), "h", "x")),
    "r/body/dense_0": nn.chain(r=nn.repeat(nn.chain(LEAF, nn.tanh()), 2)),
    "r/body/b": nn.chain(r=nn.repeat(lambda depth: nn.chain(nn.leaky_relu(depth), b=LEAF), 2)),
    "e/body": nn.chain(e=nn.ensemble(LEAF, 2)),
    "s/shared": nn.chain(s=nn.shared(LEAF, lambda tied: nn.chain(tied, nn.tanh(), tied))),
    "s/body/b": nn.chain(s=nn.shared(nn.dense(4), lambda tied: nn.chain(tied, b=LEAF))),
    "w/x": nn.chain(
        w=nn.remat(nn.cast(nn.freeze(nn.activity_regularizer(nn.chain(x=LEAF), jnp.sum)), float))
    ),
}


def leaf_paths(tree):
    return {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("path", NETWORKS)
def test_take_returns_the_layer_at_a_path(path):
    assert nn.take(NETWORKS[path], path) is LEAF


@pytest.mark.parametrize("path", NETWORKS)
def test_a_replaced_part_is_used_at_its_path(path, key):
    network = NETWORKS[path]
    changed = nn.replace(network, path, OTHER)
    assert nn.take(changed, path) is OTHER
    params, state, out_shape = network.init(key, (4,))
    fewer, fewer_state, other_shape = changed.init(jax.random.clone(key), (4,))
    assert other_shape == out_shape
    old_paths = leaf_paths((params, state))
    new_paths = leaf_paths((fewer, fewer_state))
    # The leaf has lost its bias, which was 0, and nothing else.
    assert new_paths < old_paths
    (removed,) = old_paths - new_paths
    assert "bias" in removed
    y, _ = changed.apply(fewer, fewer_state, X)
    chex.assert_trees_all_close(y, network.apply(params, state, X)[0], rtol=1e-5, atol=1e-6)


def test_a_part_of_a_switch_is_taken_and_replaced(key):
    network = nn.switch(a=LEAF, b=nn.tanh())
    y, _ = nn.replace(network, "a", nn.tanh()).apply({}, {}, (jnp.array([0, 1, 0]), X))
    np.testing.assert_allclose(y, np.tanh(X), rtol=1e-6)
    assert nn.take(network, "a") is LEAF


WRONG_PATHS = {
    "headd": r"path headd: expected a part among \['body', 'head'\], got 'headd'",
    "body/x": r"path x: expected a part among \['dense_0'\], got 'x'",
    "head/kernel": "path kernel: expected a layer made of parts, got 'kernel'",
    "": "path : expected a part among",
}


@pytest.mark.parametrize("path", WRONG_PATHS)
def test_a_path_without_a_part_raises_and_lists_the_parts(path):
    network = nn.chain(body=nn.chain(nn.dense(4)), head=LEAF)
    with pytest.raises(ConfigError, match=WRONG_PATHS[path]):
        nn.take(network, path)
    with pytest.raises(ConfigError, match=WRONG_PATHS[path]):
        nn.replace(network, path, OTHER)


def test_arguments_that_are_not_layers_raise():
    with pytest.raises(ConfigError, match="replace layer: expected a Layer"):
        nn.replace(nn.chain(head=LEAF), "head", nn.relu)
    with pytest.raises(ConfigError, match="network: expected a Layer"):
        nn.take(nn.relu, "head")


BODY_X = np.float32(np.random.default_rng(0).normal(size=(8, 4)))
BODY = nn.chain(
    stem=nn.dense(5), norm=nn.batch_norm(), inner=nn.residual(nn.chain(nn.dense(5), nn.tanh()))
)
PARAMS, STATE, _ = BODY.init(jax.random.key(7), (4,))
STATE = jax.tree.map(lambda leaf: leaf + 1, STATE)
PRETRAINED = nn.pretrained(BODY, PARAMS, STATE)


def test_pretrained_returns_the_given_params_and_state(key):
    chex.assert_trees_all_equal(PRETRAINED.init(key, (4,)), (PARAMS, STATE, (5,)))
    loaded = nn.pretrained(BODY, *jax.tree.map(np.asarray, (PARAMS, STATE)))
    chex.assert_trees_all_equal(
        jax.jit(lambda key: loaded.init(key, (4,))[:2])(key), (PARAMS, STATE)
    )
    chex.assert_trees_all_equal(
        PRETRAINED.apply(PARAMS, STATE, BODY_X), BODY.apply(PARAMS, STATE, BODY_X)
    )


def test_transfer_learning_does_not_change_the_body(key):
    recipe = train.recipe(nn.chain(nn.freeze(PRETRAINED), nn.dense(3)), optim.adam(1e-2))
    start = train.start(key, recipe, (4,))
    done, _ = train.step(recipe, start, (BODY_X, np.arange(8) % 3))
    chex.assert_trees_all_equal(done.state["chain_0"][FROZEN], PARAMS)
    assert done.params.keys() == {"dense_1"}


def test_a_part_of_a_pretrained_network_gets_its_share(key):
    params, state, _ = nn.take(PRETRAINED, "inner/body").init(key, (5,))
    chex.assert_trees_all_equal((params, state), (PARAMS["inner"]["body"], {}))
    chex.assert_trees_all_equal(
        nn.take(PRETRAINED, "norm").init(jax.random.clone(key), (5,))[1], STATE["norm"]
    )


def test_replacing_a_part_keeps_the_params_of_the_others(key):
    params, _, out_shape = nn.replace(PRETRAINED, "inner", nn.dense(2)).init(key, (4,))
    chex.assert_trees_all_equal(params["stem"], PARAMS["stem"])
    assert params["inner"]["kernel"].shape == (5, 2)
    assert out_shape == (2,)


def test_stacked_params_belong_to_the_whole_repeat(key):
    layer = nn.repeat(nn.dense(4), 2)
    params, state, _ = layer.init(key, (4,))
    start = nn.pretrained(layer, params, state)
    chex.assert_trees_all_equal(
        nn.replace(start, "body", nn.dense(4)).init(jax.random.key(1), (4,))[0], params
    )
    with pytest.raises(TreeMismatchError, match="pretrained params"):
        nn.replace(start, "body", nn.tanh()).init(jax.random.key(1), (4,))


def without(tree, first, *rest):
    """Return the tree without the leaf or branch at a path."""
    if rest:
        return tree | {first: without(tree[first], *rest)}
    return {name: branch for name, branch in tree.items() if name != first}


WRONG_PARAMS = {
    "another width": (
        PARAMS,
        STATE,
        (3,),
        r"params stem/kernel: expected float32\[3,5\], got float32\[4,5\]",
    ),
    "missing": (
        without(PARAMS, "stem", "bias"),
        STATE,
        (4,),
        "pretrained params stem/bias: .* got no such leaf",
    ),
    "extra": (
        PARAMS | {"head": {"kernel": BODY_X}},
        STATE,
        (4,),
        "pretrained params head/kernel: expected no such leaf",
    ),
    "no state": (PARAMS, {}, (4,), "pretrained state norm/mean: .* got no such leaf"),
    "integers": (
        jax.tree.map(jnp.int32, PARAMS),
        STATE,
        (4,),
        "pretrained params .*: expected float32.* got int32",
    ),
}


@pytest.mark.parametrize("case", WRONG_PARAMS)
def test_pretrained_params_that_differ_raise_with_the_path(case, key):
    params, state, shape, message = WRONG_PARAMS[case]
    with pytest.raises(TreeMismatchError, match=message):
        nn.pretrained(BODY, params, state).init(key, shape)
    with pytest.raises(ConfigError, match="pretrained layer: expected a Layer"):
        nn.pretrained(nn.relu, {}, {})
