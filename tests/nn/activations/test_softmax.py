"""Softmax and its logarithm are held to SciPy, near 0 and far from it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from fnn import nn
from fnn.errors import DTypeError, ShapeError

float64 = pytest.mark.usefixtures("x64")
FORMULAS = {"softmax": (nn.softmax(), special.softmax), "log_softmax": (nn.log_softmax(), special.log_softmax)}
every_layer = pytest.mark.parametrize("name", FORMULAS)


@float64
@every_layer
@pytest.mark.parametrize("shape", [(3, 1), (3, 5), (2, 3, 5), (2, 3, 4, 5), (0, 5)])
def test_it_has_its_formula_over_the_last_axis(name, shape):
    layer, formula = FORMULAS[name]
    x = 5 * np.random.default_rng(0).normal(size=shape)
    y, state = layer.apply({}, {}, jnp.array(x))
    np.testing.assert_allclose(y, formula(x, -1), rtol=1e-13)
    assert state == {}


@every_layer
def test_far_from_zero_values_and_gradients_are_finite(name):
    layer, formula = FORMULAS[name]
    x = np.float32([[1e30, 0, -1e30], [1e4, 1e4, 0], [-1e30, -1e30, -1e30]])
    y, pull = jax.vjp(lambda x: layer.apply({}, {}, x)[0], jnp.array(x))
    np.testing.assert_allclose(y, formula(np.float64(x), -1), rtol=1e-6)
    chex.assert_tree_all_finite(pull(jnp.ones((3, 3))))


@every_layer
def test_bfloat16_is_summed_in_float32(name):
    layer, _ = FORMULAS[name]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1000)), jnp.bfloat16)
    y, _ = layer.apply({}, {}, x)
    chex.assert_trees_all_equal(y, layer.apply({}, {}, x.astype(jnp.float32))[0].astype(jnp.bfloat16))


@every_layer
def test_shape_stays_and_nothing_is_held(name, key):
    assert FORMULAS[name][0].init(key, (2, 3)) == ({}, {}, (2, 3))


@every_layer
def test_what_does_not_fit_is_told(name, key):
    layer, _ = FORMULAS[name]
    for shape in ((), (3, 0)):
        message = rf"{name}: expected a shape \(\.\.\., features\)"
        with pytest.raises(ShapeError, match=message):
            layer.init(key, shape)
        with pytest.raises(ShapeError, match=message):
            layer.apply({}, {}, jnp.ones((2, *shape)))
    with pytest.raises(DTypeError, match=rf"{name} x: expected floating.*got uint8"):
        layer.apply({}, {}, jnp.ones((2, 3), jnp.uint8))
