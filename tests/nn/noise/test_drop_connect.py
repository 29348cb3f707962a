"""Dropped weights are held to the binomial distribution, and to the layer that has them not."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn import nn
from fnn.errors import ConfigError, DTypeError

X = jnp.eye(40)  # what comes out is the weights themselves


def weights(layer, key, train=True):
    shapes = jax.eval_shape(lambda key: layer.init(key, (40,))[0], jax.random.key(5))
    params = jax.tree.map(lambda leaf: np.float32(np.random.default_rng(0).normal(size=leaf.shape)), shapes)
    return jax.jit(lambda params, key: layer.apply(params, {}, X, key=key, train=train)[0])(params, key)


@pytest.mark.parametrize("drop_rate", [0.1, 0.5])
def test_weights_are_dropped_at_their_rate_and_the_rest_grows(drop_rate, key):
    bare = nn.dense(50, use_bias=False)
    kernel, got = weights(bare, None), np.asarray(weights(nn.drop_connect(bare, drop_rate), key))
    assert stats.binomtest(int((got == 0).sum()), got.size, drop_rate).pvalue > 1e-3
    np.testing.assert_allclose(got, np.where(got == 0, 0, kernel / (1 - drop_rate)), rtol=1e-6)


def test_biases_stay(key):
    layer = nn.drop_connect(nn.dense(3), 0.5)
    params = {"kernel": jnp.ones((4, 3)), "bias": jnp.arange(3.0)}
    y, _ = layer.apply(params, {}, jnp.zeros((2, 4)), key=key, train=True)
    chex.assert_trees_all_equal(y, jnp.tile(jnp.arange(3.0), (2, 1)))


def test_a_batch_shares_its_weights(key):
    layer = nn.drop_connect(nn.conv(2), 0.5)
    params = {"kernel": jnp.ones((3, 3, 1, 2)), "bias": jnp.ones(2)}
    one = np.float32(np.random.default_rng(0).normal(size=(1, 4, 4, 1)))
    y, _ = layer.apply(params, {}, jnp.array(np.tile(one, (3, 1, 1, 1))), key=key, train=True)
    chex.assert_trees_all_close(y, jnp.tile(y[:1], (3, 1, 1, 1)), rtol=1e-6)


def test_layers_of_a_chain_drop_independently(key):
    layer = nn.drop_connect(nn.chain(nn.dense(40, use_bias=False), nn.dense(40, use_bias=False)), 0.5)
    ones = {name: {"kernel": jnp.eye(40)} for name in ("dense_0", "dense_1")}
    kept = np.diag(layer.apply(ones, {}, X, key=key, train=True)[0]) != 0
    assert stats.binomtest(int(kept.sum()), 40, 0.25).pvalue > 1e-3


def test_what_lies_inside_draws_by_a_key_of_its_own():
    """Dropout in the wrapped network does as alone, for it has the key that it had."""
    noise = nn.chain(nn.dense(40, use_bias=False), nn.dropout(0.5))
    ones = {"dense_0": {"kernel": jnp.ones((40, 40))}}
    alone, wrapped = (
        jax.jit(lambda key, layer=layer: layer.apply(ones, {}, X, key=key, train=True)[0])(jax.random.key(3))
        for layer in (noise, nn.drop_connect(noise, 0.0))
    )
    chex.assert_trees_all_equal(alone, wrapped)


def test_one_key_drops_the_same(key):
    layer = nn.drop_connect(nn.dense(20), 0.5)
    params = {"kernel": jnp.ones((40, 20)), "bias": jnp.ones(20)}
    apply = jax.jit(lambda key: layer.apply(params, {}, X, key=key, train=True)[0])
    first, again, other = (apply(k) for k in (key, jax.random.clone(key), jax.random.key(1)))
    chex.assert_trees_all_equal(first, again)
    assert (first != other).any()


def test_outside_of_training_and_at_rate_zero_it_is_the_layer(key):
    bare = nn.dense(3)
    chex.assert_trees_all_equal(weights(nn.drop_connect(bare, 0.5), None, train=False), weights(bare, None))
    chex.assert_trees_all_equal(weights(nn.drop_connect(bare, 0.0), key), weights(bare, None))


def test_it_draws_and_names_the_params_that_the_layer_does(key):
    bare = nn.chain(nn.dense(3), nn.batch_norm())
    wanted, got = (
        jax.jit(lambda key, layer=layer: layer.init(key, (4,))[:2])(jax.random.clone(key))
        for layer in (bare, nn.drop_connect(bare, 0.5))
    )
    chex.assert_trees_all_equal(got, wanted)
    assert nn.chain(nn.drop_connect(nn.dense(3), 0.5)).init(jax.random.key(1), (4,))[0].keys() == {"dense_0"}


@pytest.mark.parametrize("drop_rate", [1.0, -0.5, float("nan"), "half"])
def test_a_rate_out_of_range_is_told_at_once(drop_rate):
    with pytest.raises(ConfigError, match=r"drop_connect drop_rate: expected"):
        nn.drop_connect(nn.dense(3), drop_rate)


def test_training_without_a_key_is_told():
    with pytest.raises(DTypeError, match="drop_connect key: expected a key"):
        weights(nn.drop_connect(nn.dense(3), 0.5), None)
