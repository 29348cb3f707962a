"""What is made of parts is taken apart and put together again, and what fits is told from what does not."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fnn import nn
from fnn.nn.composite import maker, map_leaves, parts

X = jnp.float32(np.random.default_rng(0).normal(size=(3, 4)))
DEEP = nn.chain(
    nn.dense(4),
    nn.residual(nn.remat(nn.chain(nn.dense(4), nn.tanh()))),
    many=nn.repeat(lambda depth: nn.chain(nn.dense(4), nn.leaky_relu(depth)), 2),
    tied=nn.shared(nn.dense(4), lambda tied: nn.chain(tied, nn.freeze(nn.chain(nn.dense(4), nn.relu())), tied)),
    wide=nn.parallel(nn.dense(2), nn.activity(nn.ensemble(nn.dense(2), 3), jnp.sum), join="tuple"),
)
LEAVES = [
    "dense_0", "residual_1/body/dense_0", "residual_1/body/tanh_1",
    "many/body/dense_0", "many/body/leaky_relu_1",
    "tied/shared", "tied/body/dense_0", "tied/body/chain_1/dense_0", "tied/body/chain_1/relu_1", "tied/body/dense_2",
    "wide/dense_0", "wide/ensemble_1/body",
]  # fmt: skip


def test_the_leaves_are_named_by_their_paths():
    seen = {}
    map_leaves(lambda path, leaf: seen.setdefault(path, leaf), DEEP)
    assert list(dict.fromkeys(seen)) == LEAVES
    assert [maker(seen[path]) for path in LEAVES[:3]] == ["dense", "dense", "tanh"]
    alone = nn.dense(2)
    assert map_leaves(lambda path, leaf: {"": leaf}[path], alone) is alone


def test_leaves_left_as_they_are_make_the_same_network(key):
    again = map_leaves(lambda path, leaf: leaf, DEEP)
    first = DEEP.init(key, (4,))
    chex.assert_trees_all_equal(again.init(jax.random.clone(key), (4,)), first)
    params, state, _ = first
    outcomes = [jax.jit(partial(network.apply, train=True))(params, state, X) for network in (DEEP, again)]
    chex.assert_trees_all_equal(*outcomes)


def test_every_leaf_is_exchanged_where_it_acts(key):
    heads = nn.parallel(nn.dense(2), nn.activity(nn.ensemble(nn.dense(2), 3), jnp.sum), join="tuple")
    deep = nn.chain(nn.dense(4), nn.residual(nn.remat(nn.chain(nn.dense(4)))), nn.repeat(nn.dense(4), 2), heads)
    changed = map_leaves(lambda path, leaf: nn.tanh(), deep)
    params, state, _ = changed.init(key, (4,))
    assert params == {}
    y, _ = changed.apply(params, state, X)
    x = np.tanh(X) + np.tanh(np.tanh(X))
    x = np.tanh(np.tanh(np.tanh(x)))
    np.testing.assert_allclose(y[0], x, rtol=1e-5)
    np.testing.assert_allclose(y[1], x[:, None, :].repeat(3, 1), rtol=1e-5)


def test_parts_are_the_layers_themselves():
    body, head = nn.dense(3), nn.tanh()
    assert parts(nn.chain(body, head=head)) == {"dense_0": body, "head": head}
    assert parts(nn.remat(nn.chain(body))) == {"dense_0": body}
    assert parts(nn.repeat(body, 2)) == {"body": body}
    assert parts(body) == {}
