"""Reshaping layers are held to NumPy's order of elements."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, ShapeError


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


# sizes asked for, shape of an example, shape of what comes out
RESHAPES = [
    ((6,), (2, 3), (6,)),
    ((3, -1), (2, 3), (3, 2)),
    ((-1,), (2, 3, 2), (12,)),
    ((2, 1, -1), (2,), (2, 1, 1)),
    ([1], (), (1,)),
    ((), (1, 1), ()),
]


@pytest.mark.parametrize(("sizes", "shape", "wanted"), RESHAPES)
@pytest.mark.parametrize("batch", [2, 0])
def test_reshape_goes_row_by_row(sizes, shape, wanted, batch, key):
    layer = nn.reshape(sizes)
    params, state, out_shape = layer.init(key, shape)
    x = np.arange(batch * np.prod(shape, dtype=int), dtype=np.int32).reshape(batch, *shape)
    y, state = layer.apply(params, state, jnp.array(x))
    assert (params, state, out_shape) == ({}, {}, wanted)
    np.testing.assert_array_equal(y, x.reshape(batch, *wanted))


@pytest.mark.parametrize(("sizes", "shape"), [((4,), (3,)), ((4, -1), (6,)), ((2, 3), (2, 3, 2)), ((-1, 0), (2,))])
def test_an_example_of_another_size_is_told(sizes, shape, key):
    with pytest.raises(ShapeError, match=r"reshape: expected an example of .*leave the batch axis out"):
        nn.reshape(sizes).init(key, shape)
    with pytest.raises(ShapeError, match="reshape: expected an example of"):
        nn.reshape(sizes).apply({}, {}, jnp.ones((2, *shape)))


@pytest.mark.parametrize("sizes", [(-1, -1), (2.0,), (-2,), "22", 4, (True, 2), None])
def test_what_is_no_shape_is_told(sizes):
    with pytest.raises(ConfigError, match="reshape shape: expected"):
        nn.reshape(sizes)


@pytest.mark.parametrize(("axes", "shape"), [((1, 0), (2, 3)), ((2, 0, 1), (2, 3, 4)), ([0], (3,)), ((), ())])
def test_transpose_orders_the_axes_of_an_example(axes, shape, key):
    layer = nn.transpose(axes)
    params, state, out_shape = layer.init(key, shape)
    x = np.arange(5 * np.prod(shape, dtype=int)).reshape(5, *shape)
    y, _ = layer.apply(params, state, jnp.array(x))
    assert y.shape == (5, *out_shape)
    for example in range(5):
        np.testing.assert_array_equal(y[example], x[example].transpose(axes))


@pytest.mark.parametrize("axes", [(0, 0), (1, 2), (0, 2), (-1, 0), (0.0, 1), "01", 1])
def test_what_is_no_order_is_told(axes):
    with pytest.raises(ConfigError, match="transpose axes: expected"):
        nn.transpose(axes)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_an_example_of_other_axes_is_told(shape, key):
    with pytest.raises(ShapeError, match="transpose: expected an example of 2 axes"):
        nn.transpose((1, 0)).init(key, shape)
    with pytest.raises(ShapeError, match="transpose: expected an example of 2 axes"):
        nn.transpose((1, 0)).apply({}, {}, jnp.ones((2, *shape)))
