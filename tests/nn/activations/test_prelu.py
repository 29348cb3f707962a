"""The rectifier whose slope is learned is held to its formula, and to the one whose slope is given."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError

float64 = pytest.mark.usefixtures("x64")
SLOPES = np.array([0.1, -0.5, 2.0])


@float64
@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3), (2, 2, 4, 3)])
def test_it_has_its_formula_channel_by_channel(shape):
    x, weight = np.random.default_rng(0).normal(size=(2, *shape))

    def apply(slope, x):
        return nn.prelu().apply({"slope": slope}, {}, x)[0]

    y, pull = jax.vjp(apply, jnp.array(SLOPES), jnp.array(x))
    dslope, dx = pull(jnp.array(weight))
    np.testing.assert_allclose(y, np.where(x > 0, x, SLOPES * x), rtol=1e-13)
    np.testing.assert_allclose(dx, np.where(x > 0, 1, SLOPES) * weight, rtol=1e-13)
    np.testing.assert_allclose(dslope, (np.minimum(x, 0) * weight).reshape(-1, 3).sum(0), rtol=1e-12)


def test_it_begins_as_a_leaky_relu(key):
    x = jnp.linspace(-3, 3, 10).reshape(2, 5)
    for layer, slope in ((nn.prelu(), 0.25), (nn.prelu(0.1), 0.1)):
        params, state, out_shape = layer.init(key, (5,))
        chex.assert_trees_all_equal(params, {"slope": jnp.full(5, slope)})
        assert (state, out_shape) == ({}, (5,))
        chex.assert_trees_all_close(layer.apply(params, {}, x), nn.leaky_relu(slope).apply({}, {}, x))


def test_the_slope_takes_the_dtype_of_x():
    y, _ = nn.prelu().apply({"slope": jnp.full(3, 0.5)}, {}, jnp.full((2, 3), -2.0, jnp.bfloat16))
    chex.assert_trees_all_equal(y, jnp.full((2, 3), -1.0, jnp.bfloat16))


@pytest.mark.parametrize("slope", ["0.1", None, [0.1, 0.2], float("nan"), float("inf")])
def test_a_slope_that_is_no_number_is_told_at_once(slope):
    with pytest.raises(ConfigError, match="prelu slope: expected"):
        nn.prelu(slope)


def test_what_does_not_fit_is_told(key):
    good = {"slope": jnp.ones(3)}
    for shape in ((), (4, 0)):
        with pytest.raises(ShapeError, match=r"prelu: expected a shape \(\.\.\., channels\)"):
            nn.prelu().init(key, shape)
    with pytest.raises(TreeMismatchError, match=r"prelu slope: expected shape \(4,\), got shape \(3,\)"):
        nn.prelu().apply(good, {}, jnp.ones((2, 4)))
    with pytest.raises(TreeMismatchError, match=r"prelu slope: .*no such leaf"):
        nn.prelu().apply({}, {}, jnp.ones((2, 3)))
    with pytest.raises(DTypeError, match=r"prelu x: expected floating.*got uint8"):
        nn.prelu().apply(good, {}, jnp.ones((2, 3), jnp.uint8))
