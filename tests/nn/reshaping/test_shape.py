"""Reshaping layers are held to NumPy's order of elements."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (2, 1, 1), ()])
@pytest.mark.parametrize("batch", [2, 1, 0])
def test_flatten_lays_each_example_out_row_by_row(shape, batch, key):
    layer = nn.flatten()
    params, state, out_shape = layer.init(key, shape)
    x = np.arange(batch * np.prod(shape, dtype=int), dtype=np.float32).reshape(batch, *shape)
    y, state = layer.apply(params, state, jnp.array(x))
    assert (params, state, y.shape) == ({}, {}, (batch, *out_shape))
    for example in range(batch):
        np.testing.assert_array_equal(y[example], x[example].ravel())


@pytest.mark.parametrize("dtype", ["uint8", "bfloat16", "float32"])
def test_flatten_keeps_the_dtype(dtype):
    assert nn.flatten().apply({}, {}, jnp.ones((2, 3, 4), dtype))[0].dtype == jnp.dtype(dtype)
