"""Fixed initializers equal closed forms, and make layers the identity."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, ShapeError


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_zeros_and_constant_have_one_value(shape, key):
    chex.assert_trees_all_equal(nn.zeros()(key, shape), jnp.zeros(shape))
    chex.assert_trees_all_equal(nn.constant(0.7)(key, shape), jnp.full(shape, 0.7))
    chex.assert_trees_all_equal(nn.constant(-2)(key, shape), jnp.full(shape, -2.0))


@pytest.mark.parametrize("make", [nn.zeros, lambda: nn.constant(0.1), nn.identity, nn.dirac])
def test_the_dtype_is_the_default_one(make):
    assert make()(jax.random.key(0), (4, 5)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert make()(jax.random.key(0), (4, 5)).dtype == jnp.float64


def test_a_dense_layer_with_identity_is_the_identity(key):
    layer = nn.dense(4, kernel_init=nn.identity())
    params, state, _ = layer.init(key, (4,))
    x = jnp.arange(8.0).reshape(2, 4)
    chex.assert_trees_all_equal(layer.apply(params, state, x)[0], x)


@pytest.mark.parametrize("shape", [(2, 5), (5, 2)])
def test_identity_may_be_rectangular(shape, key):
    chex.assert_trees_all_equal(nn.identity(0.5)(key, shape), 0.5 * jnp.eye(*shape))


@pytest.mark.parametrize("kernel", [1, 3, (5, 3)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_with_dirac_is_the_identity(kernel, groups, key):
    layer = nn.conv(4, kernel, groups=groups, kernel_init=nn.dirac(groups=groups))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6, 4)), jnp.float32)
    params, state, _ = layer.init(key, x.shape[1:])
    chex.assert_trees_all_equal(layer.apply(params, state, x)[0], x)


def test_dirac_fills_outputs_beyond_the_inputs_with_zeros(key):
    layer = nn.conv(5, kernel_init=nn.dirac())
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6, 3)), jnp.float32)
    params, state, _ = layer.init(key, x.shape[1:])
    chex.assert_trees_all_equal(
        layer.apply(params, state, x)[0], jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 2)))
    )


def test_dirac_with_fewer_outputs_passes_the_first_inputs(key):
    chex.assert_trees_all_equal(nn.dirac()(key, (3, 4, 2))[1], jnp.eye(4, 2))
    assert nn.dirac()(key, (3, 4, 2)).sum() == 2


def test_dirac_centers_an_even_window_as_same_padding(key):
    assert jnp.argwhere(nn.dirac()(key, (4, 1, 1)).ravel()).item() == 2


@pytest.mark.parametrize("value", [float("nan"), "much", None, [1.0, 2.0]])
def test_an_invalid_number_raises(value):
    with pytest.raises(ConfigError, match="constant value: expected"):
        nn.constant(value)
    with pytest.raises(ConfigError, match="identity scale: expected"):
        nn.identity(value)


@pytest.mark.parametrize("shape", [(), (3,), (3, 3, 4, 4)])
def test_identity_of_another_rank_raises(shape, key):
    with pytest.raises(ShapeError, match=r"identity: expected a matrix \(inputs, outputs\)"):
        nn.identity()(key, shape)


def test_invalid_groups_and_kernels_of_dirac_raise(key):
    with pytest.raises(ConfigError, match="dirac groups: expected"):
        nn.dirac(groups=0)
    with pytest.raises(ShapeError, match="dirac: expected outputs in groups=2"):
        nn.dirac(groups=2)(key, (3, 3, 2, 5))
    with pytest.raises(ShapeError, match="initializer: expected a kernel shape"):
        nn.dirac()(key, (3,))
