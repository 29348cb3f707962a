"""A parameter gives every example the same array, and learns from all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, ShapeError, TreeMismatchError

LAYER = nn.parameter(2, 3, init=nn.normal(1.0))
X = jnp.ones((5, 4), jnp.int32)


@pytest.mark.parametrize("x", [X, jnp.ones(5), (jnp.ones((5, 7)), jnp.ones(5))])
def test_every_example_gets_the_value_whatever_x_is(x, key):
    params, state, out_shape = LAYER.init(key, (4,))
    wanted = nn.normal(1.0)(jax.random.clone(key), (2, 3))
    y, _ = LAYER.apply(params, state, x)
    np.testing.assert_array_equal(y, np.broadcast_to(wanted, (5, 2, 3)))
    assert (list(params), state, out_shape) == (["value"], {}, (2, 3))


def test_the_gradient_is_the_sum_over_the_batch(key):
    params, state, _ = LAYER.init(key, (4,))
    slope = jax.grad(lambda params: jnp.arange(5.0) @ LAYER.apply(params, state, X)[0][:, 0, 0])(params)
    np.testing.assert_array_equal(slope["value"], [[10, 0, 0], [0, 0, 0]])


def test_a_single_number_is_a_parameter_too(key):
    layer = nn.parameter(init=lambda key, shape: jnp.ones(shape))
    params, state, out_shape = layer.init(key, (4,))
    np.testing.assert_array_equal(layer.apply(params, state, X)[0], np.ones(5))
    assert out_shape == ()


def test_what_does_not_fit_is_told(key):
    for size in (0, 2.0, -1):
        with pytest.raises(ConfigError, match="parameter shape"):
            nn.parameter(3, size, init=nn.normal())
    for x in (jnp.float32(1), ()):
        with pytest.raises(ShapeError, match=r"parameter x: expected arrays \(batch, ...\)"):
            LAYER.apply({"value": jnp.ones((2, 3))}, {}, x)
    with pytest.raises(TreeMismatchError, match="parameter value"):
        LAYER.apply({"value": jnp.ones(3)}, {}, X)
