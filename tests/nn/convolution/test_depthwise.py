"""Depthwise and separable convolutions, against a sum for each channel in NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, ShapeError

float64 = pytest.mark.usefixtures("x64")


def by_channel(x, kernel, stride, padding):
    """Convolve channel by channel and tap by tap, with the same padding on every side."""
    kh, kw, _, outputs = kernel.shape
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = ((n - k) // stride + 1 for n, k in ((x.shape[1], kh), (x.shape[2], kw)))
    y = np.zeros((x.shape[0], rows, columns, outputs))
    multiplier = outputs // x.shape[-1]
    for o, i, j in np.ndindex(outputs, kh, kw):
        channel = x[..., o // multiplier]
        pixels = channel[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
        y[..., o] += pixels[:, :rows, :columns] * kernel[i, j, 0, o]
    return y


def normal(draw):
    return lambda key, shape: jnp.array(draw.normal(size=shape))


@float64
@pytest.mark.parametrize(("multiplier", "stride", "window"), [(1, 1, 3), (2, 2, (3, 2)), (3, 1, 1)])
def test_each_channel_has_kernels_of_its_own(multiplier, stride, window, key):
    draw = np.random.default_rng(0)
    layer = nn.depthwise_conv(
        window,
        multiplier=multiplier,
        stride=stride,
        padding=1,
        use_bias=False,
        kernel_init=normal(draw),
    )
    params, state, out_shape = layer.init(key, (6, 5, 3))
    x = draw.normal(size=(2, 6, 5, 3))
    y, _ = layer.apply(params, state, jnp.array(x))
    expected = by_channel(x, np.asarray(params["kernel"]), stride, 1)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    assert y.shape == (2, *out_shape)
    assert params["kernel"].shape[2:] == (1, 3 * multiplier)


def test_initial_variance_is_for_the_taps_of_one_channel(key):
    params, _, _ = nn.depthwise_conv(5, multiplier=8).init(key, (8, 8, 64))
    assert abs(np.std(params["kernel"]) * (25 / 2) ** 0.5 - 1) < 4 / (2 * 25 * 8 * 64) ** 0.5
    chex.assert_trees_all_equal(params["bias"], jnp.zeros(512))


@float64
def test_separable_is_depthwise_then_pointwise(key):
    draw = np.random.default_rng(0)
    layer = nn.separable_conv(4, multiplier=2, stride=2, padding=1, kernel_init=normal(draw))
    params, state, out_shape = layer.init(key, (6, 5, 3))
    assert jax.tree.map(jnp.shape, params) == {
        "depthwise": {"kernel": (3, 3, 1, 6)},
        "pointwise": {"kernel": (1, 1, 6, 4), "bias": (4,)},
    }
    params["pointwise"]["bias"] = jnp.arange(4.0)
    x = draw.normal(size=(2, 6, 5, 3))
    y, _ = layer.apply(params, state, jnp.array(x))
    space = by_channel(x, np.asarray(params["depthwise"]["kernel"]), 2, 1)
    pointwise = np.asarray(params["pointwise"]["kernel"][0, 0])
    np.testing.assert_allclose(y, space @ pointwise + np.arange(4), rtol=1e-12)
    assert y.shape == (2, *out_shape)


def test_separable_layer_with_a_replaced_part_keeps_its_name(key):
    layer = nn.replace(nn.separable_conv(4), "pointwise", nn.conv(4, 1))
    params, _, _ = nn.chain(layer).init(key, (4, 4, 2))
    assert list(params) == ["separable_conv_0"]


@pytest.mark.parametrize(
    "make", [nn.depthwise_conv, lambda **options: nn.separable_conv(4, **options)]
)
def test_invalid_options_and_shapes_raise(make, key):
    with pytest.raises(ConfigError, match="depthwise_conv multiplier: expected >= 1"):
        make(multiplier=0)
    with pytest.raises(ConfigError, match="depthwise_conv stride: expected"):
        make(stride=0)
    with pytest.raises(ConfigError, match="conv use_bias: expected True or False"):
        make(use_bias="no")
    with pytest.raises(ShapeError, match=r"depthwise_conv: expected \(height, width, channels\)"):
        make().init(key, (8, 8))
    with pytest.raises(ShapeError, match="depthwise_conv: expected a kernel of at least one input"):
        make().init(key, (8, 8, 0))
