"""Upsampling is held to `numpy.repeat` and to `numpy.interp` between the centers of the pixels."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError

CASES = [(2, (3, 4)), ((1, 3), (2, 3)), (4, (1, 2)), (1, (2, 2))]


def between(x, axis, factor):
    """Lines between the centers, flat beyond the outermost."""
    centers = np.arange(x.shape[axis]) + 0.5
    places = (np.arange(x.shape[axis] * factor) + 0.5) / factor
    return np.apply_along_axis(lambda line: np.interp(places, centers, line), axis, x)


ORACLES = {"nearest": lambda x, axis, factor: np.repeat(x, factor, axis), "bilinear": between}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", ORACLES)
@pytest.mark.parametrize(("factor", "image"), CASES)
def test_pixels_lie_where_they_should(factor, image, method, key):
    layer = nn.upsample(factor, method=method)
    params, state, out_shape = layer.init(key, (*image, 2))
    x = wanted = np.random.default_rng(0).normal(size=(2, *image, 2))
    for axis, times in enumerate(np.broadcast_to(factor, 2), 1):
        wanted = ORACLES[method](wanted, axis, times)
    y, state = layer.apply(params, state, jnp.array(x))
    np.testing.assert_allclose(y, wanted, rtol=1e-14, atol=1e-14)
    assert (params, state, y.shape) == ({}, {}, (2, *out_shape))


@pytest.mark.parametrize("method", ORACLES)
def test_dtype_stays(method):
    assert nn.upsample(2, method=method).apply({}, {}, jnp.ones((1, 2, 2, 1), jnp.bfloat16))[0].dtype == jnp.bfloat16


def test_what_does_not_fit_is_told(key):
    with pytest.raises(ConfigError, match="upsample factor: expected >= 1"):
        nn.upsample(0)
    with pytest.raises(ConfigError, match="upsample factor: expected a whole number"):
        nn.upsample(1.5)
    with pytest.raises(ConfigError, match="upsample method: expected one of nearest, bilinear"):
        nn.upsample(2, method="linear")
    with pytest.raises(ShapeError, match=r"upsample: expected \(height, width, channels\), got \(4, 4\)"):
        nn.upsample().init(key, (4, 4))
    with pytest.raises(ShapeError, match="upsample: expected at least one pixel"):
        nn.upsample().init(key, (0, 4, 1))
    with pytest.raises(DTypeError, match=r"upsample x: expected floating.*got uint8"):
        nn.upsample().apply({}, {}, jnp.ones((1, 4, 4, 1), jnp.uint8))
