"""Tests of rematerialization: equal results, fewer arrays kept."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, FnnError

X = jnp.float32(np.random.default_rng(0).normal(size=(5, 4)))
BODY = nn.chain(nn.dense(4), nn.batch_norm(), nn.dropout(0.5), nn.tanh(), nn.dense(4), nn.tanh())


def slopes(layer, params, state, key):
    def total(params, x):
        y, new_state = layer.apply(params, state, x, key=key, train=True)
        return jnp.square(y).sum(), (y, new_state)

    return jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(params, X)


def test_outputs_and_gradients_equal_those_of_the_layer(key):
    layer = nn.remat(BODY)
    first = BODY.init(key, (4,))
    chex.assert_trees_all_equal(layer.init(jax.random.clone(key), (4,)), first)
    params, state, _ = first
    keys = jax.random.clone(key), jax.random.clone(key)
    chex.assert_trees_all_close(
        *(slopes(f, params, state, k) for f, k in zip((layer, BODY), keys, strict=True)),
        rtol=1e-5,
        atol=1e-6,
    )
    chex.assert_trees_all_equal(layer.apply(params, state, X), BODY.apply(params, state, X))


def test_no_intermediate_is_kept_for_the_backward_pass(key):
    params, state, _ = BODY.init(key, (4,))

    def count_residuals(layer):
        """Count the arrays kept for the backward pass."""
        _, pull = jax.vjp(lambda params, x: layer.apply(params, state, x)[0], params, X)
        return len({id(leaf) for leaf in jax.tree.leaves(pull)})

    given = len(jax.tree.leaves((params, state))) + 1
    assert count_residuals(nn.remat(BODY)) <= given < count_residuals(BODY)


def test_it_keeps_the_name_and_the_path_in_errors():
    layer = nn.chain(nn.remat(nn.chain(nn.max_pool())))
    with pytest.raises(FnnError) as caught:
        layer.apply({}, {}, X)
    assert caught.value.__notes__[0] == "in layer chain_0/max_pool_0: x float32[5,4]"
    with pytest.raises(ConfigError, match="remat layer: expected a Layer"):
        nn.remat(nn.relu)
