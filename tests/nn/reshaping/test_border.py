"""Borders are held to `numpy.pad`, and cropping to what was there before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError

# padding, image, and the pairs that it means
CASES = [
    (1, (4, 3), ((1, 1), (1, 1))),
    (((0, 2), (1, 0)), (4, 3), ((0, 2), (1, 0))),
    (0, (2, 2), ((0, 0), (0, 0))),
    ([[2, 0]], (4,), ((2, 0),)),
    (((1, 0), (0, 1), (1, 1)), (2, 3, 2), ((1, 0), (0, 1), (1, 1))),
]


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize(("padding", "image", "pairs"), CASES)
def test_the_border_is_that_of_numpy(padding, image, pairs, mode, key):
    layer = nn.pad(padding, mode=mode)
    params, state, out_shape = layer.init(key, (*image, 2))
    x = np.float32(np.random.default_rng(0).normal(size=(2, *image, 2)))
    y, state = layer.apply(params, state, jnp.array(x))
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), *pairs, (0, 0)), mode))
    assert (params, state, y.shape) == ({}, {}, (2, *out_shape))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_value_may_be_traced_and_promotes_nothing(dtype):
    x = jnp.ones((1, 2, 2, 1), dtype)
    y = jax.jit(lambda value: nn.pad(1, value=value).apply({}, {}, x)[0])(jnp.float32(-2.5))
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y[0, ..., 0], np.pad(np.ones((2, 2)), 1, constant_values=-2.5))


@pytest.mark.parametrize(("border", "image", "pairs"), CASES)
def test_crop_takes_away_what_pad_added(border, image, pairs, key):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *image, 2)), "float32")
    padded, _ = nn.pad(border).apply({}, {}, x)
    layer = nn.crop(border)
    params, state, out_shape = layer.init(key, padded.shape[1:])
    np.testing.assert_array_equal(layer.apply(params, state, padded)[0], x)
    assert out_shape == x.shape[1:]


WRONG = [-1, 1.5, "SAME", None, True, ((1, -1), (0, 0)), ((1, 1),) * 4, (), ((1, 2, 3), (1, 2))]


@pytest.mark.parametrize("border", WRONG)
def test_what_is_no_border_is_told(border):
    with pytest.raises(ConfigError, match="pad padding: expected"):
        nn.pad(border)
    with pytest.raises(ConfigError, match="crop border: expected"):
        nn.crop(border)


def test_other_options_are_told():
    with pytest.raises(ConfigError, match="pad mode: expected one of constant, reflect, edge"):
        nn.pad(1, mode="wrap")
    with pytest.raises(ConfigError, match="pad value: expected"):
        nn.pad(1, value=np.nan)


def test_an_image_too_small_is_told(key):
    with pytest.raises(ShapeError, match=r"pad: expected at least \(3, 3\) pixels .*got \(2, 5\)"):
        nn.pad(2, mode="reflect").init(key, (2, 5, 1))
    with pytest.raises(ShapeError, match=r"pad: expected at least \(1, 1\) pixels .*got \(0, 5\)"):
        nn.pad(2, mode="edge").apply({}, {}, jnp.ones((1, 0, 5, 1)))
    with pytest.raises(ShapeError, match=r"crop: expected more than \(2, 3\) pixels, got \(2, 5\)"):
        nn.crop(((1, 1), (1, 2))).init(key, (2, 5, 1))


@pytest.mark.parametrize("name", ["pad", "crop"])
def test_what_is_no_image_is_told(name, key):
    layer = getattr(nn, name)(1)
    with pytest.raises(ShapeError, match=rf"{name}: expected \(height, width, channels\), got \(4, 4\)"):
        layer.init(key, (4, 4))
    with pytest.raises(ShapeError, match=rf"{name} x: expected rank 4 \(N, H, W, C\), got \(4, 4, 1\)"):
        layer.apply({}, {}, jnp.ones((4, 4, 1)))
    with pytest.raises(DTypeError, match=rf"{name} x: expected floating.*got uint8"):
        layer.apply({}, {}, jnp.ones((1, 4, 4, 1), jnp.uint8))
