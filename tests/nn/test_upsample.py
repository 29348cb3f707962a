"""Enlargement of images, against NumPy and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError

UPSAMPLE_CASES = [(2, (3, 4)), ((1, 3), (2, 3)), (4, (1, 2)), (1, (2, 2))]


def linear_interpolation(x, axis, factor):
    """Linear interpolation between the centers, constant beyond the outermost ones."""
    centers = np.arange(x.shape[axis]) + 0.5
    positions = (np.arange(x.shape[axis] * factor) + 0.5) / factor
    return np.apply_along_axis(lambda line: np.interp(positions, centers, line), axis, x)


UPSAMPLE_ORACLES = {
    "nearest": lambda x, axis, factor: np.repeat(x, factor, axis),
    "bilinear": linear_interpolation,
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", UPSAMPLE_ORACLES)
@pytest.mark.parametrize(("factor", "image"), UPSAMPLE_CASES)
def test_upsample_equals_numpy(factor, image, method, key):
    layer = nn.upsample(factor, method=method)
    params, state, out_shape = layer.init(key, (*image, 2))
    x = wanted = np.random.default_rng(0).normal(size=(2, *image, 2))
    for axis, times in enumerate(np.broadcast_to(factor, 2), 1):
        wanted = UPSAMPLE_ORACLES[method](wanted, axis, times)
    y, state = layer.apply(params, state, jnp.array(x))
    np.testing.assert_allclose(y, wanted, rtol=1e-14, atol=1e-14)
    assert (params, state, y.shape) == ({}, {}, (2, *out_shape))


@pytest.mark.parametrize("method", UPSAMPLE_ORACLES)
def test_upsample_keeps_the_dtype(method):
    x = jnp.ones((1, 2, 2, 1), jnp.bfloat16)
    y, _ = nn.upsample(2, method=method).apply({}, {}, x)
    assert y.dtype == jnp.bfloat16


def test_wrong_options_and_inputs_of_upsample_raise(key):
    with pytest.raises(ConfigError, match="upsample factor: expected >= 1"):
        nn.upsample(0)
    with pytest.raises(ConfigError, match="upsample factor: expected a whole number"):
        nn.upsample(1.5)
    with pytest.raises(
        ConfigError, match="upsample method: expected one of nearest, bilinear, bicubic"
    ):
        nn.upsample(2, method="linear")
    with pytest.raises(
        ShapeError, match=r"upsample: expected \(height, width, channels\), got \(4, 4\)"
    ):
        nn.upsample().init(key, (4, 4))
    with pytest.raises(ShapeError, match="upsample: expected at least one pixel"):
        nn.upsample().init(key, (0, 4, 1))
    with pytest.raises(DTypeError, match=r"upsample x: expected floating.*got uint8"):
        nn.upsample().apply({}, {}, jnp.ones((1, 4, 4, 1), jnp.uint8))


def torch_values_and_gradient(x, weight, size, method, align_corners):
    """Values and gradient in float32 of torch, whose images have channels first."""
    import torch

    images = torch.tensor(x.transpose(0, 3, 1, 2)).requires_grad_()
    option = {} if method == "nearest" else {"align_corners": align_corners}
    y = torch.nn.functional.interpolate(images, size=size, mode=method, **option)
    y.backward(torch.tensor(weight.transpose(0, 3, 1, 2)))
    return (array.detach().numpy().transpose(0, 2, 3, 1) for array in (y, images.grad))


METHODS = [("nearest", False), *((m, a) for m in ("bilinear", "bicubic") for a in (False, True))]
# From (5, 7) to a larger, an odd, a smaller, one pixel, a multiple.
SIZES = [(11, 9), (7, 23), (3, 4), (1, 1), (10, 21), (5, 8)]


@pytest.mark.torch
@pytest.mark.parametrize(("method", "align_corners"), METHODS)
@pytest.mark.parametrize("size", SIZES)
def test_any_size_equals_torch(size, method, align_corners):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(2, 5, 7, 3)).astype(np.float32)
    weight = draw.normal(size=(2, *size, 3)).astype(np.float32)
    layer = nn.upsample(size=size, method=method, align_corners=align_corners)
    y, pull = jax.vjp(lambda x: layer.apply({}, {}, x)[0], jnp.array(x))
    wanted, slope = torch_values_and_gradient(x, weight, size, method, align_corners)
    assert layer.init(jax.random.key(0), (5, 7, 3))[2] == (*size, 3)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(pull(jnp.array(weight))[0], slope, rtol=1e-5, atol=5e-6)


@pytest.mark.torch
def test_pixels_of_any_sizes_are_those_of_torch():
    """With method="nearest" one index off is a whole pixel off."""
    import torch

    for n, m in [(3, 41), (9, 123), (41, 123), (47, 141), (64, 33), (50, 98), (7, 6)]:
        x = np.arange(n, dtype=np.float32)
        y, _ = nn.upsample(size=(1, m)).apply({}, {}, jnp.array(x)[None, None, :, None])
        wanted = torch.nn.functional.interpolate(torch.tensor(x)[None, None], size=m)
        np.testing.assert_array_equal(y.ravel(), wanted.numpy().ravel())


def test_a_factor_and_the_size_that_it_gives_are_one():
    x = jnp.float32(np.random.default_rng(0).normal(size=(2, 3, 4, 2)))
    for method, align_corners in METHODS:
        option = {"method": method, "align_corners": align_corners}
        by_factor, _ = nn.upsample((2, 3), **option).apply({}, {}, x)
        by_size, _ = nn.upsample(size=(6, 12), **option).apply({}, {}, x)
        np.testing.assert_array_equal(by_factor, by_size)


def test_wrong_sizes_raise():
    with pytest.raises(ConfigError, match="upsample: expected a factor or a size, got both"):
        nn.upsample(2, size=4)
    with pytest.raises(ConfigError, match="upsample size: expected >= 1"):
        nn.upsample(size=(0, 4))
    with pytest.raises(ConfigError, match='upsample align_corners: expected False with "nearest"'):
        nn.upsample(align_corners=True)
