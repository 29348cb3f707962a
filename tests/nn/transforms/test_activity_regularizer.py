"""Tests of the activity regularizer: the penalty per example, in training only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, ShapeError, TreeMismatchError

X = jnp.float32(np.random.default_rng(0).normal(size=(5, 4)))


def squares(y):
    return 0.1 * jnp.square(y).sum()


def test_training_stores_the_penalty_in_the_state(key):
    layer = nn.activity_regularizer(nn.chain(nn.dense(3), nn.batch_norm()), squares)
    params, state, out_shape = layer.init(key, (4,))
    assert (state["penalty"], state.keys(), out_shape) == (0, {"body", "penalty"}, (3,))
    y, new_state = layer.apply(params, state, X, train=True)
    np.testing.assert_allclose(new_state["penalty"], 0.1 * np.square(y).sum() / 5, rtol=1e-6)
    assert np.all(new_state["body"]["batch_norm_1"]["mean"] != 0)
    _, eval_state = layer.apply(params, new_state, X)
    assert eval_state["penalty"] == 0


def test_the_penalty_has_its_closed_form_gradient(key):
    layer = nn.activity_regularizer(nn.dense(3), squares)
    params, state, _ = layer.init(key, (4,))
    slope = jax.jit(
        jax.grad(lambda params: layer.apply(params, state, X, train=True)[1]["penalty"])
    )(params)
    np.testing.assert_allclose(
        slope["kernel"], 0.2 / 5 * X.T @ X @ params["kernel"], rtol=1e-4, atol=1e-6
    )


def test_the_penalty_is_summed_in_float32():
    layer = nn.activity_regularizer(nn.tanh(), jnp.sum)
    _, state = layer.apply(
        {}, {"penalty": jnp.zeros(())}, jnp.full((1, 4096), 20, jnp.bfloat16), train=True
    )
    assert (state["penalty"], state["penalty"].dtype) == (4096, jnp.float32)
    cast = nn.cast(layer).apply(
        {}, {"penalty": jnp.zeros(())}, jnp.full((1, 4096), 20.0), train=True
    )[1]
    assert cast["penalty"] == 4096


def test_it_may_be_repeated_and_keeps_its_name(key):
    layer = nn.chain(
        nn.repeat(nn.activity_regularizer(nn.dense(4), squares), 3),
        nn.activity_regularizer(nn.dense(2), squares),
    )
    params, state, _ = layer.init(key, (4,))
    assert list(params) == ["repeat_0", "dense_1"]
    _, new_state = layer.apply(params, state, X, train=True)
    assert new_state["repeat_0"]["body"]["penalty"].shape == (3,)
    assert np.all(new_state["repeat_0"]["body"]["penalty"] > 0)


def test_wrong_arguments_raise(key):
    with pytest.raises(
        ConfigError,
        match=r"activity_regularizer penalty: expected a function of an array, got 0\.1",
    ):
        nn.activity_regularizer(nn.dense(2), 0.1)
    with pytest.raises(ConfigError, match="activity_regularizer layer: expected a Layer"):
        nn.activity_regularizer(nn.relu, squares)
    layer = nn.activity_regularizer(nn.tanh(), jnp.square)
    with pytest.raises(
        ShapeError, match=r"activity_regularizer penalty: expected one number, got \(5, 4\)"
    ):
        layer.apply({}, layer.init(key, (4,))[1], X, train=True)
    with pytest.raises(TreeMismatchError, match="activity_regularizer: expected entries among"):
        layer.apply({}, {"price": X}, X)
