"""Layers that change shapes are compared with NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (2, 1, 1), ()])
@pytest.mark.parametrize("batch", [2, 1, 0])
def test_flatten_is_row_major(shape, batch, key):
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


# sizes of the layer, shape of an example, shape of an example of the output
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
def test_reshape_is_row_major(sizes, shape, wanted, batch, key):
    layer = nn.reshape(sizes)
    params, state, out_shape = layer.init(key, shape)
    x = np.arange(batch * np.prod(shape, dtype=int), dtype=np.int32).reshape(batch, *shape)
    y, state = layer.apply(params, state, jnp.array(x))
    assert (params, state, out_shape) == ({}, {}, wanted)
    np.testing.assert_array_equal(y, x.reshape(batch, *wanted))


@pytest.mark.parametrize(
    ("sizes", "shape"), [((4,), (3,)), ((4, -1), (6,)), ((2, 3), (2, 3, 2)), ((-1, 0), (2,))]
)
def test_reshape_of_another_size_raises(sizes, shape, key):
    with pytest.raises(
        ShapeError, match=r"reshape: expected an example of .*leave the batch axis out"
    ):
        nn.reshape(sizes).init(key, shape)
    with pytest.raises(ShapeError, match="reshape: expected an example of"):
        nn.reshape(sizes).apply({}, {}, jnp.ones((2, *shape)))


@pytest.mark.parametrize("sizes", [(-1, -1), (2.0,), (-2,), "22", 4, (True, 2), None])
def test_an_invalid_shape_raises(sizes):
    with pytest.raises(ConfigError, match="reshape shape: expected"):
        nn.reshape(sizes)


@pytest.mark.parametrize(
    ("axes", "shape"), [((1, 0), (2, 3)), ((2, 0, 1), (2, 3, 4)), ([0], (3,)), ((), ())]
)
def test_transpose_permutes_the_axes_of_an_example(axes, shape, key):
    layer = nn.transpose(axes)
    params, state, out_shape = layer.init(key, shape)
    x = np.arange(5 * np.prod(shape, dtype=int)).reshape(5, *shape)
    y, _ = layer.apply(params, state, jnp.array(x))
    assert y.shape == (5, *out_shape)
    for example in range(5):
        np.testing.assert_array_equal(y[example], x[example].transpose(axes))


@pytest.mark.parametrize("axes", [(0, 0), (1, 2), (0, 2), (-1, 0), (0.0, 1), "01", 1])
def test_invalid_axes_raise(axes):
    with pytest.raises(ConfigError, match="transpose axes: expected"):
        nn.transpose(axes)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_transpose_of_another_rank_raises(shape, key):
    with pytest.raises(ShapeError, match="transpose: expected an example of 2 axes"):
        nn.transpose((1, 0)).init(key, shape)
    with pytest.raises(ShapeError, match="transpose: expected an example of 2 axes"):
        nn.transpose((1, 0)).apply({}, {}, jnp.ones((2, *shape)))


# padding, height and width of the image, the padding as pairs
BORDERS = [
    (1, (4, 3), ((1, 1), (1, 1))),
    (((0, 2), (1, 0)), (4, 3), ((0, 2), (1, 0))),
    (0, (2, 2), ((0, 0), (0, 0))),
    ([[2, 0]], (4,), ((2, 0),)),
    (((1, 0), (0, 1), (1, 1)), (2, 3, 2), ((1, 0), (0, 1), (1, 1))),
]


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize(("padding", "image", "pairs"), BORDERS)
def test_pad_equals_numpy(padding, image, pairs, mode, key):
    layer = nn.pad(padding, mode=mode)
    params, state, out_shape = layer.init(key, (*image, 2))
    x = np.float32(np.random.default_rng(0).normal(size=(2, *image, 2)))
    y, state = layer.apply(params, state, jnp.array(x))
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), *pairs, (0, 0)), mode))
    assert (params, state, y.shape) == ({}, {}, (2, *out_shape))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_traced_value_of_pad_keeps_the_dtype(dtype):
    x = jnp.ones((1, 2, 2, 1), dtype)
    y = jax.jit(lambda value: nn.pad(1, value=value).apply({}, {}, x)[0])(jnp.float32(-2.5))
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y[0, ..., 0], np.pad(np.ones((2, 2)), 1, constant_values=-2.5))


@pytest.mark.parametrize(("border", "image", "pairs"), BORDERS)
def test_crop_inverts_pad(border, image, pairs, key):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *image, 2)), "float32")
    padded, _ = nn.pad(border).apply({}, {}, x)
    layer = nn.crop(border)
    params, state, out_shape = layer.init(key, padded.shape[1:])
    np.testing.assert_array_equal(layer.apply(params, state, padded)[0], x)
    assert out_shape == x.shape[1:]


INVALID_BORDERS = [
    -1,
    1.5,
    "SAME",
    None,
    True,
    ((1, -1), (0, 0)),
    ((1, 1),) * 4,
    (),
    ((1, 2, 3), (1, 2)),
]


@pytest.mark.parametrize("border", INVALID_BORDERS)
def test_an_invalid_border_raises(border):
    with pytest.raises(ConfigError, match="pad padding: expected"):
        nn.pad(border)
    with pytest.raises(ConfigError, match="crop border: expected"):
        nn.crop(border)


def test_invalid_options_of_pad_raise():
    with pytest.raises(ConfigError, match="pad mode: expected one of constant, reflect, edge"):
        nn.pad(1, mode="wrap")
    with pytest.raises(ConfigError, match="pad value: expected"):
        nn.pad(1, value=np.nan)


def test_an_image_smaller_than_the_border_raises(key):
    with pytest.raises(ShapeError, match=r"pad: expected at least \(3, 3\) pixels .*got \(2, 5\)"):
        nn.pad(2, mode="reflect").init(key, (2, 5, 1))
    with pytest.raises(ShapeError, match=r"pad: expected at least \(1, 1\) pixels .*got \(0, 5\)"):
        nn.pad(2, mode="edge").apply({}, {}, jnp.ones((1, 0, 5, 1)))
    with pytest.raises(ShapeError, match=r"crop: expected more than \(2, 3\) pixels, got \(2, 5\)"):
        nn.crop(((1, 1), (1, 2))).init(key, (2, 5, 1))


@pytest.mark.parametrize("name", ["pad", "crop"])
def test_pad_and_crop_of_wrong_inputs_raise(name, key):
    layer = getattr(nn, name)(1)
    with pytest.raises(
        ShapeError, match=rf"{name}: expected \(height, width, channels\), got \(4, 4\)"
    ):
        layer.init(key, (4, 4))
    with pytest.raises(
        ShapeError, match=rf"{name} x: expected rank 4 \(N, H, W, C\), got \(4, 4, 1\)"
    ):
        layer.apply({}, {}, jnp.ones((4, 4, 1)))
    with pytest.raises(DTypeError, match=rf"{name} x: expected floating.*got uint8"):
        layer.apply({}, {}, jnp.ones((1, 4, 4, 1), jnp.uint8))
