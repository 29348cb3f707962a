"""Transposed convolutions, against a sum of scaled kernels and the adjoint of `conv`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError

float64 = pytest.mark.usefixtures("x64")
MAKERS = {
    1: (nn.conv_1d, nn.conv_transpose_1d),
    2: (nn.conv, nn.conv_transpose),
    3: (nn.conv_3d, nn.conv_transpose_3d),
}


def sum_of_kernels(x, kernel, stride, low, dilation, size, groups):
    """Add a scaled kernel to y for every pixel, from -low on; taps outside of y are dropped."""
    *window, inputs, channels = kernel.shape
    y = np.zeros((x.shape[0], *size, channels))
    for pixel in np.ndindex(*x.shape[1:-1]):
        for tap in np.ndindex(*window):
            axes = zip(stride, pixel, dilation, tap, low, strict=True)
            target = [s * p + d * t - b for s, p, d, t, b in axes]
            if not all(0 <= a < n for a, n in zip(target, size, strict=True)):
                continue
            for o in range(channels):
                first = o // (channels // groups) * inputs
                group = x[(slice(None), *pixel, slice(first, first + inputs))]
                y[(slice(None), *target, o)] += group @ kernel[(*tap, slice(None), o)]
    return y


# (axes, options, image, and the expected stride, low padding, dilation and size of y)
CASES = {
    "same": (2, {}, (4, 3), (1, 1), (1, 1), (1, 1), (4, 3)),
    "same, twice": (2, {"stride": 2}, (4, 3), (2, 2), (0, 0), (1, 1), (8, 6)),
    "same, even kernel": (2, {"stride": 2, "kernel": 4}, (4, 3), (2, 2), (1, 1), (1, 1), (8, 6)),
    "same, gaps": (2, {"stride": 3, "kernel": 2}, (2, 3), (3, 3), (0, 0), (1, 1), (6, 9)),
    "valid": (2, {"stride": (2, 1), "padding": "VALID"}, (4, 3), (2, 1), (0, 0), (1, 1), (9, 5)),
    "valid, gaps": (
        2,
        {"stride": 3, "kernel": 2, "padding": "VALID"},
        (2, 3),
        (3, 3),
        (0, 0),
        (1, 1),
        (5, 8),
    ),
    "int": (2, {"stride": 2, "padding": 1}, (4, 3), (2, 2), (1, 1), (1, 1), (7, 5)),
    "pairs": (
        2,
        {"stride": 2, "padding": [(0, 1), (1, 0)]},
        (4, 3),
        (2, 2),
        (0, 1),
        (1, 1),
        (8, 6),
    ),
    "output padding": (
        2,
        {"stride": (2, 3), "padding": 1, "output_padding": (1, 2)},
        (4, 3),
        (2, 3),
        (1, 1),
        (1, 1),
        (8, 9),
    ),
    "dilated groups": (
        2,
        {"dilation": 2, "padding": 1, "groups": 2},
        (4, 3),
        (1, 1),
        (1, 1),
        (2, 2),
        (6, 5),
    ),
    "signal": (1, {"stride": 2, "groups": 2}, (5,), (2,), (0,), (1,), (10,)),
    "signal, dilated": (
        1,
        {"dilation": 2, "padding": 1, "kernel": (2,)},
        (5,),
        (1,),
        (1,),
        (2,),
        (5,),
    ),
    "volume": (
        3,
        {"stride": (1, 2, 2), "padding": 1, "output_padding": (0, 1, 0)},
        (2, 3, 2),
        (1, 2, 2),
        (1, 1, 1),
        (1, 1, 1),
        (2, 6, 3),
    ),
}


@float64
@pytest.mark.parametrize("case", CASES)
def test_each_pixel_adds_a_kernel(case, key):
    axes, options, image, stride, low, dilation, size = CASES[case]
    draw = np.random.default_rng(0)
    _, maker = MAKERS[axes]
    layer = maker(4, **options, kernel_init=lambda key, shape: jnp.array(draw.normal(size=shape)))
    params, state, out_shape = layer.init(key, (*image, 2))
    params["bias"] = jnp.arange(4.0)
    x = draw.normal(size=(2, *image, 2))
    y, _ = layer.apply(params, state, jnp.array(x))
    kernel = np.asarray(params["kernel"])
    groups = options.get("groups", 1)
    expected = sum_of_kernels(x, kernel, stride, low, dilation, size, groups) + np.arange(4)
    assert y.shape == (2, *out_shape) == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


# (axes, options of both layers, image of conv)
ADJOINTS = {
    "same": (2, {"stride": 2}, (8, 6)),
    "same, dilated": (2, {"stride": 2, "dilation": 2, "kernel": (4, 3)}, (8, 6)),
    "int": (2, {"stride": 2, "padding": 1, "kernel": 4}, (8, 6)),
    "signal": (1, {"stride": 3}, (9,)),
    "volume": (3, {"stride": 2}, (4, 2, 4)),
}


@float64
@pytest.mark.parametrize("case", ADJOINTS)
def test_layer_is_the_adjoint_of_conv(case):
    """⟨conv(z), x⟩ = ⟨z, conv_transpose(x)⟩ with the kernel's two channel axes exchanged."""
    axes, options, image = ADJOINTS[case]
    conv, transposed = MAKERS[axes]
    draw = np.random.default_rng(0)
    window = np.broadcast_to(options.get("kernel", 3), axes)
    kernel = jnp.array(draw.normal(size=(*window, 2, 3)))
    z = jnp.array(draw.normal(size=(2, *image, 2)))
    shared = options | {"use_bias": False}
    y, _ = conv(3, **shared).apply({"kernel": kernel}, {}, z)
    x = jnp.array(draw.normal(size=y.shape))
    back, _ = transposed(2, **shared).apply({"kernel": kernel.swapaxes(-1, -2)}, {}, x)
    np.testing.assert_allclose(jnp.vdot(y, x), jnp.vdot(z, back), rtol=1e-12)


def test_initial_params_are_he_normal_and_zeros(key):
    params, _, _ = nn.conv_transpose(64, 5, groups=2).init(key, (8, 8, 16))
    chex.assert_shape(params["kernel"], (5, 5, 8, 64))
    chex.assert_trees_all_equal(params["bias"], jnp.zeros(64))
    fan_in = 5 * 5 * 8
    standard_error = 1 / (2 * fan_in * 64) ** 0.5
    assert abs(np.std(params["kernel"]) * (fan_in / 2) ** 0.5 - 1) < 4 * standard_error


OPTIONS = {
    "channels": ({"channels": 0}, "conv_transpose channels: expected >= 1"),
    "kernel": ({"kernel": (3, 3, 3)}, "conv_transpose kernel: expected one int or two"),
    "groups": ({"groups": 3}, "conv_transpose channels: expected a multiple of groups=3"),
    "padding": ({"padding": "same"}, 'conv_transpose padding: expected "SAME"'),
    "output padding, negative": (
        {"output_padding": -1},
        "conv_transpose output_padding: expected >= 0",
    ),
    "output padding of a stride of 1": (
        {"padding": 1, "output_padding": 1},
        r"output_padding: expected less than the stride \(1, 1\) or the dilation \(1, 1\), got",
    ),
    "output padding of same": (
        {"stride": 2, "output_padding": 1},
        "output_padding: expected 0 with padding=.SAME.",
    ),
    "use_bias": ({"use_bias": None}, "conv_transpose use_bias: expected True or False"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_invalid_option_raises(case):
    options, message = OPTIONS[case]
    with pytest.raises(ConfigError, match=message):
        nn.conv_transpose(**({"channels": 4} | options))


def test_wrong_inputs_and_params_raise(key):
    layer = nn.conv_transpose(4)
    good = {"kernel": jnp.ones((3, 3, 2, 4)), "bias": jnp.ones(4)}
    message = r"conv_transpose: expected \(height, width, channels\), got \(5, 5\)"
    with pytest.raises(ShapeError, match=message):
        layer.init(key, (5, 5))
    with pytest.raises(ShapeError, match=r"conv_transpose_3d x: expected rank 5 \(N, D, H, W, C\)"):
        nn.conv_transpose_3d(4).apply(good, {}, jnp.ones((1, 5, 5, 2)))
    message = r"conv_transpose x: expected \(..., 2\).*got \(1, 5, 5, 3\)"
    with pytest.raises(ShapeError, match=message):
        layer.apply(good, {}, jnp.ones((1, 5, 5, 3)))
    with pytest.raises(DTypeError, match=r"conv_transpose x: .*got uint8"):
        layer.apply(good, {}, jnp.ones((1, 5, 5, 2), jnp.uint8))
    with pytest.raises(TreeMismatchError, match=r"conv_transpose bias: .*no such leaf"):
        layer.apply({"kernel": good["kernel"]}, {}, jnp.ones((1, 5, 5, 2)))
    with pytest.raises(ShapeError, match="conv_transpose: expected an image of at least one pixel"):
        layer.init(key, (0, 5, 2))
    message = r"conv_transpose: expected something left.*got \(0, 0\); use less padding"
    with pytest.raises(ShapeError, match=message):
        nn.conv_transpose(4, 2, padding=1).init(key, (1, 1, 2))
    with pytest.raises(ShapeError, match="conv_transpose: expected input channels in groups=2"):
        nn.conv_transpose(4, groups=2).init(key, (5, 5, 3))


# (kernel, stride, padding, dilation, output padding)
BEYOND_THE_STRIDE = [
    (3, 1, 0, 2, 1),
    (3, 1, 2, 3, 2),
    (2, 2, 1, 4, 3),
    (3, 2, 3, 5, 4),
    (1, 1, 0, 4, 3),
    (3, 3, 1, 2, 2),
]


@pytest.mark.torch
@float64
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "extra"), BEYOND_THE_STRIDE)
def test_an_output_padding_below_the_dilation_equals_torch(
    kernel, stride, padding, dilation, extra, axes
):
    import torch

    options = {"stride": stride, "padding": padding, "dilation": dilation, "output_padding": extra}
    module = getattr(torch.nn, f"ConvTranspose{axes}d")(2, 4, kernel, groups=2, **options).double()
    images = torch.randn(2, 2, *(4, 3, 5)[:axes], dtype=torch.float64, requires_grad=True)
    wanted = module(images)
    wanted.sin().sum().backward()
    # (in, out / groups, ...) -> (..., in / groups, out): each input is a group of its own here
    weight = module.weight.detach().numpy()
    params = {
        "kernel": jnp.array(np.moveaxis(weight, (0, 1), (-2, -1)).reshape(*weight.shape[2:], 1, 4)),
        "bias": jnp.array(module.bias.detach().numpy()),
    }
    layer = MAKERS[axes][1](4, kernel, groups=2, **options)
    x = jnp.array(np.moveaxis(images.detach().numpy(), 1, -1))
    y, pull = jax.vjp(lambda x: layer.apply(params, {}, x)[0], x)
    assert layer.init(jax.random.key(0), x.shape[1:])[2] == y.shape[1:]
    np.testing.assert_allclose(np.moveaxis(y, -1, 1), wanted.detach().numpy(), rtol=1e-9, atol=1e-9)
    slope = np.moveaxis(pull(jnp.cos(y))[0], -1, 1)
    np.testing.assert_allclose(slope, images.grad.numpy(), rtol=1e-9, atol=1e-9)
