"""Which arrays are weights, and who has such."""

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


def test_kernels_are_known_by_their_name():
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
def test_a_layer_without_kernel_is_told(name, layer, key):
    with pytest.raises(
        ConfigError, match=f"{name} layer: expected one with a kernel among its params, got"
    ):
        TRANSFORMS[name](layer).init(key, (4,))


@every_transform
@pytest.mark.parametrize("thing", [nn.dense, None, 0.5])
def test_what_is_no_layer_is_told_at_once(name, thing):
    with pytest.raises(ConfigError, match=f"{name} layer: expected a Layer"):
        TRANSFORMS[name](thing)


@every_transform
def test_params_keep_their_names_and_errors_their_paths(name, key):
    bare = nn.chain(
        nn.conv(2), nn.batch_norm(), nn.residual(nn.conv(2)), nn.flatten(), head=nn.dense(3)
    )
    layer = TRANSFORMS[name](bare)
    params, state = jax.eval_shape(lambda key: layer.init(key, (4, 4, 2))[:2], key)
    wanted = jax.eval_shape(lambda key: bare.init(key, (4, 4, 2))[0], key)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, wanted)
    with pytest.raises(ShapeError) as caught:
        jax.eval_shape(applied(layer), params, state, jnp.ones((2, 4, 4, 3)), key=jax.random.key(1))
    assert caught.value.__notes__[0].startswith("in layer conv_0: x float32[2,4,4,3]")


def applied(layer):
    """In training, compiled whole: the shorter way for a test."""
    return jax.jit(partial(layer.apply, train=True))


@every_transform
def test_a_layer_is_changed_alone_even_where_its_weights_are_stacked(name):
    """What a member of an ensemble gives is what it gives alone, be it changed inside of the ensemble or with it."""
    alone = TRANSFORMS[name](nn.dense(3))
    inside, outside = nn.ensemble(alone, 2), TRANSFORMS[name](nn.ensemble(nn.dense(3), 2))
    params, state = jax.jit(lambda key: inside.init(key, (4,))[:2])(jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.stack([leaf[0], 5 * leaf[1] ** 2]), params)
    x = jnp.arange(8.0).reshape(2, 4)
    (y, after), other = (
        applied(layer)(params, state, x, key=jax.random.key(1)) for layer in (inside, outside)
    )
    chex.assert_trees_all_close(other, (y, after), rtol=1e-6)
    for place in range(2):
        own = (
            jax.tree.map(lambda leaf, place=place: leaf[place], tree.get("body", {}))
            for tree in (params, state)
        )
        wanted, _ = applied(alone)(*own, x, key=jax.random.fold_in(jax.random.key(1), place))
        chex.assert_trees_all_close(y[:, place], wanted, rtol=1e-5, atol=1e-6)


def test_a_leaf_is_changed_once(key):
    seen = []
    change_kernels(
        "here",
        nn.chain(nn.dense(3), nn.residual(nn.dense(3))),
        lambda leaf: seen.append(leaf) or leaf,
    )
    assert len(seen) == 2
