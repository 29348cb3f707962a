"""Kernels of a network, and layers that compute with changed ones."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.reparametrization import change_kernels, kernels, with_kernels

ONE, TWO, THREE, FOUR, FIVE = np.arange(1.0, 6.0)
PARAMS = {
    "stem": {"kernel": ONE, "bias": TWO},
    "body": {"gate": {"kernel": THREE}, "kernels": FOUR},
    "kernel": FIVE,
}


def test_kernels_are_found_by_name():
    assert kernels(PARAMS) == {"stem/kernel": 1.0, "body/gate/kernel": 3.0, "kernel": 5.0}
    assert kernels({}) == {}


def test_only_kernels_change():
    changed = with_kernels(PARAMS, {"stem/kernel": 10.0, "kernel": 50.0})
    assert changed == PARAMS | {"stem": {"kernel": 10.0, "bias": 2.0}, "kernel": 50.0}


TRANSFORMS = {
    "drop_connect": lambda layer: nn.drop_connect(layer, 0.5),
    "spectral_norm": nn.spectral_norm,
    "weight_standardization": nn.weight_standardization,
}
every_transform = pytest.mark.parametrize("name", TRANSFORMS)


@every_transform
@pytest.mark.parametrize(
    "layer", [nn.relu(), nn.batch_norm(), nn.chain(), nn.chain(nn.batch_norm(), nn.tanh())]
)
def test_layer_without_kernel_raises(name, layer, key):
    message = f"{name} layer: expected one with a kernel among its params, got"
    with pytest.raises(ConfigError, match=message):
        TRANSFORMS[name](layer).init(key, (4,))


@every_transform
@pytest.mark.parametrize("thing", [nn.dense, None, 0.5])
def test_argument_that_is_not_a_layer_raises(name, thing):
    with pytest.raises(ConfigError, match=f"{name} layer: expected a Layer"):
        TRANSFORMS[name](thing)


@every_transform
def test_params_keep_names_and_errors_keep_paths(name, key):
    bare = nn.chain(
        nn.conv(2), nn.batch_norm(), nn.residual(nn.conv(2)), nn.flatten(), head=nn.dense(3)
    )
    layer = TRANSFORMS[name](bare)
    params, state = jax.eval_shape(lambda key: layer.init(key, (4, 4, 2))[:2], key)
    expected = jax.eval_shape(lambda key: bare.init(key, (4, 4, 2))[0], key)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, expected)
    with pytest.raises(ShapeError) as caught:
        jax.eval_shape(applied(layer), params, state, jnp.ones((2, 4, 4, 3)), key=jax.random.key(1))
    assert caught.value.__notes__[0].startswith("in layer conv_0: x float32[2,4,4,3]")


def applied(layer):
    """apply in training, compiled as one program, which is faster."""
    return jax.jit(partial(layer.apply, train=True))


@every_transform
def test_stacked_kernels_are_changed_one_by_one(name):
    """A member of an ensemble computes the same alone, changed before or after the ensemble."""
    alone = TRANSFORMS[name](nn.dense(3))
    inside, outside = nn.ensemble(alone, 2), TRANSFORMS[name](nn.ensemble(nn.dense(3), 2))
    params, state = jax.jit(lambda key: inside.init(key, (4,))[:2])(jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.stack([leaf[0], 5 * leaf[1] ** 2]), params)
    x = jnp.arange(8.0).reshape(2, 4)
    y, new_state = applied(inside)(params, state, x, key=jax.random.key(1))
    other = applied(outside)(params, state, x, key=jax.random.key(1))
    chex.assert_trees_all_close(other, (y, new_state), rtol=1e-6)
    for index in range(2):
        member = [
            jax.tree.map(lambda leaf, index=index: leaf[index], tree.get("body", {}))
            for tree in (params, state)
        ]
        expected, _ = applied(alone)(*member, x, key=jax.random.fold_in(jax.random.key(1), index))
        chex.assert_trees_all_close(y[:, index], expected, rtol=1e-5, atol=1e-6)


def test_each_leaf_is_changed_once(key):
    changed = []

    def change(leaf):
        changed.append(leaf)
        return leaf

    change_kernels("here", nn.chain(nn.dense(3), nn.residual(nn.dense(3))), change)
    assert len(changed) == 2
