"""Tests of mixed precision against full precision, within rounding, and of kept dtypes."""

from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.errors import ConfigError
from fnn.types import FROZEN, Layer

X = jnp.float32(np.random.default_rng(0).normal(size=(8, 4)))
NETWORK = nn.chain(nn.dense(16), nn.batch_norm(), nn.tanh(), nn.dense(3))
ROUNDING = {jnp.bfloat16: 2.0**-8, jnp.float16: 2.0**-11}


def dtypes(tree):
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


@cache
def initial():
    """Params and state of the network."""
    return NETWORK.init(jax.random.key(0), (4,))[:2]


@cache
def train_step(layer):
    """Return, in training, the gradients by params and x, y, and the new state."""
    params, state = initial()

    def total(params, x):
        y, new_state = layer.apply(params, state, x, train=True)
        return jnp.square(y).sum(), (y, new_state)

    return jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, X)


def test_a_cast_of_float32_to_float32_changes_nothing():
    chex.assert_trees_all_equal(train_step(nn.cast(NETWORK, jnp.float32)), train_step(NETWORK))


@pytest.mark.parametrize("dtype", ROUNDING)
def test_it_computes_in_the_dtype_and_returns_float32(dtype):
    slopes, (y, new_state) = train_step(nn.cast(NETWORK, dtype))
    wanted_slopes, (wanted, wanted_state) = train_step(NETWORK)
    assert dtypes((slopes, y, new_state)) == {jnp.dtype(jnp.float32)}
    error = np.abs(y - wanted).max() / np.abs(wanted).max()
    assert ROUNDING[dtype] / 16 < error < 4 * ROUNDING[dtype]
    chex.assert_trees_all_close(
        new_state, wanted_state, rtol=4 * ROUNDING[dtype], atol=ROUNDING[dtype]
    )
    for slope, other in zip(jax.tree.leaves(slopes), jax.tree.leaves(wanted_slopes), strict=True):
        assert np.abs(slope - other).max() < 16 * ROUNDING[dtype] * max(np.abs(other).max(), 1)


def recording_layer(recorded):
    """A layer that records the dtypes of params, state and x."""

    def apply(params, state, x, *, key=None, train=False):
        recorded.extend(
            (params["a"].dtype, state["b"].dtype, state["count"].dtype, *(part.dtype for part in x))
        )
        return x, {"b": state["b"].astype(jnp.bfloat16), "count": state["count"] + 1}

    return Layer(nn.dense(1).init, apply)


def test_integers_and_state_keep_their_dtypes():
    recorded = []
    state = {"b": jnp.ones(2), "count": jnp.array(0)}
    y, new_state = nn.cast(recording_layer(recorded)).apply(
        {"a": jnp.ones(2)}, state, (jnp.ones(3), jnp.arange(3))
    )
    low, full, whole = jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)
    assert recorded == [low, full, whole, low, whole]
    assert [part.dtype for part in y] == [full, whole]
    assert (new_state["b"].dtype, new_state["count"].dtype) == (full, whole)


def test_y_has_the_dtype_of_the_params(key):
    params, _, _ = nn.dense(3).init(key, (4,))
    assert nn.cast(nn.dense(3)).apply(params, {}, X.astype(jnp.bfloat16))[0].dtype == jnp.float32
    assert nn.cast(nn.tanh()).apply({}, {}, X.astype(jnp.bfloat16))[0].dtype == jnp.bfloat16


def test_frozen_params_are_cast_and_kept(key):
    layer = nn.cast(nn.chain(nn.freeze(nn.dense(16)), nn.tanh(), nn.dense(3)))
    params, state, _ = layer.init(key, (4,))
    y, new_state = layer.apply(params, state, X)
    whole = {"dense_0": state["dense_0"][FROZEN]} | params
    wanted, _ = nn.cast(nn.chain(nn.dense(16), nn.tanh(), nn.dense(3))).apply(whole, {}, X)
    chex.assert_trees_all_equal((y, new_state), (wanted, state))


def test_a_trained_cast_network_keeps_its_params_in_float32(key):
    labels = np.arange(8) % 3
    recipe = train.recipe(nn.cast(NETWORK), optim.adam(1e-2))
    start = train.start(key, recipe, (4,))
    done, measured = train.step(recipe, start, (X, labels))
    assert dtypes((done.params, done.state, measured["loss"])) == {jnp.dtype(jnp.float32)}
    assert np.all(done.params["dense_3"]["kernel"] != start.params["dense_3"]["kernel"])


@pytest.mark.parametrize(
    "layer", [nn.repeat(nn.chain(nn.dense(4), nn.batch_norm()), 2), nn.ensemble(nn.dense(4), 2)]
)
def test_stacked_params_are_cast(layer, key):
    params, state, _ = layer.init(key, (4,))
    y, new_state = nn.cast(layer).apply(params, state, X, train=True)
    wanted, _ = layer.apply(params, state, X, train=True)
    assert dtypes((y, new_state, params)) == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(y, wanted, atol=0.1)


@pytest.mark.parametrize("dtype", [jnp.int32, "int8", jnp.float8_e4m3fn, "half precision", complex])
def test_other_dtypes_raise(dtype):
    with pytest.raises(
        ConfigError, match="cast dtype: expected bfloat16, float16, float32 or float"
    ):
        nn.cast(nn.dense(2), dtype)
