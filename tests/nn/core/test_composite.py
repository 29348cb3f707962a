"""Composite layers: their parts, rebuilding with changed parts, and the names of layers."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.nn.core.composite import map_leaves, name_of, parts
from fnn.types import Layer, Number
from fnn.values import maker

X = jnp.float32(np.random.default_rng(0).normal(size=(3, 4)))
DEEP = nn.chain(
    nn.dense(4),
    nn.residual(nn.remat(nn.chain(nn.dense(4), nn.tanh()))),
    many=nn.repeat(lambda depth: nn.chain(nn.dense(4), nn.leaky_relu(depth)), 2),
    tied=nn.shared(
        nn.dense(4), lambda tied: nn.chain(tied, nn.freeze(nn.chain(nn.dense(4), nn.relu())), tied)
    ),
    wide=nn.parallel(
        nn.dense(2), nn.activity_regularizer(nn.ensemble(nn.dense(2), 3), jnp.sum), join="tuple"
    ),
)
LEAVES = [
    "dense_0", "residual_1/body/dense_0", "residual_1/body/tanh_1",
    "many/body/dense_0", "many/body/leaky_relu_1",
    "tied/shared", "tied/body/dense_0",
    "tied/body/chain_1/dense_0", "tied/body/chain_1/relu_1", "tied/body/dense_2",
    "wide/dense_0", "wide/ensemble_1/body",
]  # fmt: skip


def test_leaves_are_named_by_their_paths():
    leaves = {}
    map_leaves(lambda path, leaf: leaves.setdefault(path, leaf), DEEP)
    assert list(leaves) == LEAVES
    assert [name_of(leaves[path]) for path in LEAVES[:3]] == ["dense", "dense", "tanh"]
    alone = nn.dense(2)
    assert map_leaves(lambda path, leaf: {"": leaf}[path], alone) is alone


def test_unchanged_leaves_make_the_same_network(key):
    again = map_leaves(lambda path, leaf: leaf, DEEP)
    first = DEEP.init(key, (4,))
    chex.assert_trees_all_equal(again.init(jax.random.clone(key), (4,)), first)
    params, state, _ = first
    expected = jax.jit(partial(DEEP.apply, train=True))(params, state, X)
    got = jax.jit(partial(again.apply, train=True))(params, state, X)
    chex.assert_trees_all_equal(got, expected)


def test_every_leaf_can_be_replaced(key):
    heads = nn.parallel(
        nn.dense(2), nn.activity_regularizer(nn.ensemble(nn.dense(2), 3), jnp.sum), join="tuple"
    )
    deep = nn.chain(
        nn.dense(4), nn.residual(nn.remat(nn.chain(nn.dense(4)))), nn.repeat(nn.dense(4), 2), heads
    )
    changed = map_leaves(lambda path, leaf: nn.tanh(), deep)
    params, state, _ = changed.init(key, (4,))
    assert params == {}
    y, _ = changed.apply(params, state, X)
    x = np.tanh(X) + np.tanh(np.tanh(X))
    x = np.tanh(np.tanh(np.tanh(x)))
    np.testing.assert_allclose(y[0], x, rtol=1e-5)
    np.testing.assert_allclose(y[1], x[:, None, :].repeat(3, 1), rtol=1e-5)


def test_parts_are_the_layers_by_name():
    body, head = nn.dense(3), nn.tanh()
    assert parts(nn.chain(body, head=head)) == {"dense_0": body, "head": head}
    assert parts(nn.remat(nn.chain(body))) == {"dense_0": body}
    assert parts(nn.repeat(body, 2)) == {"body": body}
    assert parts(body) == {}


# Names of layers in a chain.


@maker
def block(width: int, drop_rate: Number = 0.0) -> Layer:
    return nn.chain(nn.dense(width), nn.dropout(drop_rate))


def by_hand(name=None):
    """A layer without a maker, x W."""

    def init(key, shape):
        return {"kernel": jnp.eye(*shape)}, {}, shape

    def apply(params, state, x, *, key=None, train=False):
        return x @ params["kernel"], state

    return Layer(init, apply, name)


NAMES = {
    "dense": nn.dense(4),
    "chain": nn.chain(nn.dense(4), nn.dense(4)),
    "repeat": nn.repeat(nn.dense(4), 2),
    "residual": nn.residual(nn.mlp([4])),
    "mlp": nn.mlp([4, 4]),
    "block": block(4),
    "layer": by_hand(),
    "mine": by_hand("mine"),
}
CHANGES = {
    "activity": partial(nn.activity_regularizer, penalty=jnp.sum),
    "cast": nn.cast,
    "drop_connect": partial(nn.drop_connect, drop_rate=0.1),
    "freeze": nn.freeze,
    "pretrained": partial(nn.pretrained, params={}, state={}),
    "remat": nn.remat,
    "spectral_norm": nn.spectral_norm,
    "weight_standardization": nn.weight_standardization,
}
every_name = pytest.mark.parametrize("name", NAMES)


@every_name
def test_name_is_that_of_the_maker_unless_given(name, key):
    assert name_of(NAMES[name]) == name and NAMES[name].name == (None if name == "layer" else name)
    params, _, _ = nn.chain(nn.tanh(), NAMES[name], given=NAMES[name]).init(key, (4,))
    assert list(params) == [f"{name}_1", "given"]


@every_name
@pytest.mark.parametrize("change", CHANGES)
def test_changed_layer_keeps_its_name(change, name):
    once = CHANGES[change](NAMES[name])
    assert name_of(once) == name_of(nn.remat(once)) == name_of(nn.freeze(once)) == name
    assert list(parts(nn.chain(once))) == [f"{name}_0"]


def test_network_with_a_replaced_part_keeps_its_name(key):
    changed = nn.replace(nn.mlp([4, 3]), "dense_2", nn.dense(2))
    assert name_of(changed) == name_of(nn.freeze(changed)) == "mlp"
    params, _, out_shape = nn.chain(changed).init(key, (4,))
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes["mlp_0"]["dense_2"] == {"bias": (2,), "kernel": (4, 2)}
    assert out_shape == (2,)


def test_outer_maker_names_the_layer(key):
    """As `mlp` names the chain that it returns."""

    @maker
    def wrapped(layer: Layer) -> Layer:
        return layer

    assert name_of(wrapped(nn.dense(2))) == name_of(wrapped(wrapped(nn.dense(2)))) == "wrapped"
    assert name_of(wrapped(by_hand())) == "wrapped" and name_of(wrapped(by_hand("mine"))) == "mine"
    assert name_of((lambda: nn.chain(nn.dense(2)))()) == "chain"


def test_rebuilt_layer_keeps_the_names_of_its_parts(key):
    network = nn.chain(nn.mlp([4, 4]), by_hand(), block(3))
    again = map_leaves(lambda path, leaf: leaf, network)
    assert list(parts(again)) == list(parts(network)) == ["mlp_0", "layer_1", "block_2"]
    params, _, _ = again.init(key, (4,))
    expected, _, _ = network.init(jax.random.clone(key), (4,))
    chex.assert_trees_all_equal(params, expected)
