"""A projection is the dense layer whose width follows from what it meets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ShapeError, TreeMismatchError
from fnn.nn.attention.projection import divided, projection


@pytest.mark.parametrize("inputs", [3, 4])
def test_it_is_the_dense_layer_of_so_many_units(inputs):
    layer, wanted = projection(lambda width: 2 * width), nn.dense(2 * inputs)
    params, state, shape = layer.init(jax.random.key(0), (5, inputs))
    same, _, own_shape = wanted.init(jax.random.key(0), (5, inputs))
    jax.tree.map(np.testing.assert_array_equal, params, same)
    assert (state, shape) == ({}, own_shape)
    x = jnp.linspace(-1, 1, 2 * 5 * inputs).reshape(2, 5, inputs)
    np.testing.assert_array_equal(layer.apply(params, {}, x)[0], wanted.apply(params, {}, x)[0])


def test_its_kernel_begins_as_it_is_told(key):
    layer = projection(lambda width: width, use_bias=False, kernel_init=nn.identity())
    params, _, _ = layer.init(key, (3,))
    np.testing.assert_array_equal(params["kernel"], np.eye(3))
    assert params.keys() == {"kernel"}


def test_a_kernel_of_other_units_is_told():
    params = {"kernel": jnp.ones((3, 5)), "bias": jnp.ones(5)}
    with pytest.raises(TreeMismatchError, match=r"dense kernel: expected shape \(3, 6\), got shape \(3, 5\)"):
        projection(lambda width: 2 * width).apply(params, {}, jnp.ones((2, 3)))


def test_parts_are_equal():
    assert divided("x", 12, 4) == 3
    with pytest.raises(ShapeError, match="x: expected a width that 5 divides, got 12"):
        divided("x", 12, 5)
