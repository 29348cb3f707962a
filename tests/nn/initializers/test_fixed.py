"""Fixed beginnings are held to their closed forms, and to the layers that they make the identity."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, ShapeError


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_zeros_and_constants_are_everywhere_the_same(shape, key):
    chex.assert_trees_all_equal(nn.zeros()(key, shape), jnp.zeros(shape))
    chex.assert_trees_all_equal(nn.constant(0.7)(key, shape), jnp.full(shape, 0.7))
    chex.assert_trees_all_equal(nn.constant(-2)(key, shape), jnp.full(shape, -2.0))


@pytest.mark.parametrize("make", [nn.zeros, lambda: nn.constant(0.1), nn.identity, nn.dirac])
def test_they_are_in_the_default_dtype(make):
    assert make()(jax.random.key(0), (4, 5)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert make()(jax.random.key(0), (4, 5)).dtype == jnp.float64


def test_the_identity_passes_a_vector_through(key):
    layer = nn.dense(4, kernel_init=nn.identity())
    params, state, _ = layer.init(key, (4,))
    x = jnp.arange(8.0).reshape(2, 4)
    chex.assert_trees_all_equal(layer.apply(params, state, x)[0], x)


@pytest.mark.parametrize("shape", [(2, 5), (5, 2)])
def test_the_identity_need_not_be_square(shape, key):
    chex.assert_trees_all_equal(nn.identity(0.5)(key, shape), 0.5 * jnp.eye(*shape))


@pytest.mark.parametrize("kernel", [1, 3, (5, 3)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_that_begins_by_dirac_is_the_identity(kernel, groups, key):
    layer = nn.conv(4, kernel, groups=groups, kernel_init=nn.dirac(groups=groups))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6, 4)), jnp.float32)
    params, state, _ = layer.init(key, x.shape[1:])
    chex.assert_trees_all_equal(layer.apply(params, state, x)[0], x)


def test_dirac_of_more_outputs_than_inputs_fills_up_with_zeros(key):
    layer = nn.conv(5, kernel_init=nn.dirac())
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6, 3)), jnp.float32)
    params, state, _ = layer.init(key, x.shape[1:])
    chex.assert_trees_all_equal(
        layer.apply(params, state, x)[0], jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 2)))
    )


def test_dirac_of_fewer_outputs_than_inputs_passes_the_first(key):
    chex.assert_trees_all_equal(nn.dirac()(key, (3, 4, 2))[1], jnp.eye(4, 2))
    assert nn.dirac()(key, (3, 4, 2)).sum() == 2


def test_the_middle_of_an_even_field_is_where_same_padding_has_it(key):
    assert jnp.argwhere(nn.dirac()(key, (4, 1, 1)).ravel()).item() == 2


@pytest.mark.parametrize("value", [float("nan"), "much", None, [1.0, 2.0]])
def test_what_is_no_number_is_told(value):
    with pytest.raises(ConfigError, match="constant value: expected"):
        nn.constant(value)
    with pytest.raises(ConfigError, match="identity scale: expected"):
        nn.identity(value)


@pytest.mark.parametrize("shape", [(), (3,), (3, 3, 4, 4)])
def test_what_is_no_matrix_is_told(shape, key):
    with pytest.raises(ShapeError, match=r"identity: expected a matrix \(inputs, outputs\)"):
        nn.identity()(key, shape)


def test_groups_that_do_not_divide_are_told(key):
    with pytest.raises(ConfigError, match="dirac groups: expected"):
        nn.dirac(groups=0)
    with pytest.raises(ShapeError, match="dirac: expected outputs in groups=2"):
        nn.dirac(groups=2)(key, (3, 3, 2, 5))
    with pytest.raises(ShapeError, match="initializer: expected a kernel shape"):
        nn.dirac()(key, (3,))
