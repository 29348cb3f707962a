"""Parts are found and exchanged by the paths that their params have."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError

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
    "w/x": nn.chain(w=nn.remat(nn.cast(nn.freeze(nn.activity(nn.chain(x=LEAF), jnp.sum)), float))),
}


@pytest.mark.parametrize("path", NETWORKS)
def test_a_part_is_the_layer_at_its_path(path):
    assert nn.take(NETWORKS[path], path) is LEAF


@pytest.mark.parametrize("path", NETWORKS)
def test_a_replaced_part_acts_in_its_place(path, key):
    network = NETWORKS[path]
    changed = nn.replace(network, path, OTHER)
    assert nn.take(changed, path) is OTHER
    params, state, out_shape = network.init(key, (4,))
    fewer, fewer_state, other_shape = changed.init(jax.random.clone(key), (4,))
    assert other_shape == out_shape
    given, kept = (
        {jax.tree_util.keystr(way) for way, _ in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in ((params, state), (fewer, fewer_state))
    )
    # The leaf has lost its bias, which was 0, and nothing else.
    assert kept < given and len(given) - len(kept) == 1 and "bias" in (given - kept).pop()
    y, _ = changed.apply(fewer, fewer_state, X)
    chex.assert_trees_all_close(y, network.apply(params, state, X)[0], rtol=1e-5, atol=1e-6)


def test_a_switched_part_too(key):
    network = nn.switch(a=LEAF, b=nn.tanh())
    y, _ = nn.replace(network, "a", nn.tanh()).apply({}, {}, (jnp.array([0, 1, 0]), X))
    np.testing.assert_allclose(y, np.tanh(X), rtol=1e-6)
    assert nn.take(network, "a") is LEAF


WRONG = {
    "headd": r"path headd: expected a part among \['body', 'head'\], got 'headd'",
    "body/x": r"path x: expected a part among \['dense_0'\], got 'x'",
    "head/kernel": "path kernel: expected a layer made of parts, got 'kernel'",
    "": "path : expected a part among",
}


@pytest.mark.parametrize("path", WRONG)
def test_a_path_of_no_part_is_told_with_the_parts_there_are(path):
    network = nn.chain(body=nn.chain(nn.dense(4)), head=LEAF)
    with pytest.raises(ConfigError, match=WRONG[path]):
        nn.take(network, path)
    with pytest.raises(ConfigError, match=WRONG[path]):
        nn.replace(network, path, OTHER)


def test_what_is_no_layer_is_told():
    with pytest.raises(ConfigError, match="replace layer: expected a Layer"):
        nn.replace(nn.chain(head=LEAF), "head", nn.relu)
    with pytest.raises(ConfigError, match="network: expected a Layer"):
        nn.take(nn.relu, "head")
