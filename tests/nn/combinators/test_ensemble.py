"""Members of an ensemble are held to the layer alone."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, FnnError

X = jnp.float32(np.random.default_rng(0).normal(size=(5, 4)))
MEMBER = nn.chain(nn.dense(3), nn.batch_norm(), nn.dropout(0.5))


def test_each_member_is_the_layer_alone(key):
    layer = nn.ensemble(MEMBER, 3)
    params, state, out_shape = layer.init(key, (4,))
    trained = jax.jit(partial(MEMBER.apply, train=True))
    y, new_state = jax.jit(partial(layer.apply, train=True))(params, state, X, key=jax.random.clone(key))
    assert y.shape[1:] == out_shape == (3, 3)
    for place in range(3):
        own_params, own_state, new = jax.tree.map(lambda leaf, i=place: leaf[i], (params, state, new_state))
        own_key = jax.random.fold_in(jax.random.clone(key), place)
        alone = trained(own_params["body"], own_state["body"], X, key=own_key)
        chex.assert_trees_all_close((y[:, place], new["body"]), alone, rtol=1e-5, atol=1e-6)


def test_members_begin_apart(key):
    kernels = nn.ensemble(nn.dense(3), 2).init(key, (4,))[0]["body"]["kernel"]
    assert not np.any(kernels[0] == kernels[1])


def test_each_of_several_outputs_has_a_member_axis(key):
    layer = nn.ensemble(nn.parallel(a=nn.dense(3), b=nn.tanh(), join="dict"), 2)
    params, state, out_shape = layer.init(key, (4,))
    y, _ = layer.apply(params, state, X)
    assert out_shape == {"a": (2, 3), "b": (2, 4)} == jax.tree.map(lambda y: y.shape[1:], y)


def test_what_does_not_fit_is_told(key):
    with pytest.raises(ConfigError, match="ensemble n: expected >= 1"):
        nn.ensemble(MEMBER, 0)
    with pytest.raises(ConfigError, match="ensemble body: expected a Layer"):
        nn.ensemble(nn.relu, 2)
    with pytest.raises(FnnError) as caught:
        nn.chain(nn.ensemble(nn.max_pool(), 2)).init(key, (4,))
    assert caught.value.__notes__[0] == "in layer ensemble_0/body: shape (4,)"
