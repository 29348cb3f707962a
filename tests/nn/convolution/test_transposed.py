"""Transposed convolutions are held to the kernels that they lay down, one by one, and to the adjoint of `conv`."""

import chex
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


def laid_down(x, kernel, stride, low, dilation, size, groups):
    """Every pixel adds its kernel to y, from -low on; what lies outside is lost."""
    *window, inputs, channels = kernel.shape
    y = np.zeros((x.shape[0], *size, channels))
    for place in np.ndindex(*x.shape[1:-1]):
        for tap in np.ndindex(*window):
            at = [
                s * p + d * t - b
                for s, p, d, t, b in zip(stride, place, dilation, tap, low, strict=True)
            ]
            if all(0 <= a < n for a, n in zip(at, size, strict=True)):
                for o in range(channels):
                    first = o // (channels // groups) * inputs
                    own = x[(slice(None), *place, slice(first, first + inputs))]
                    y[(slice(None), *at, o)] += own @ kernel[(*tap, slice(None), o)]
    return y


# axes, options, image, and the stride, low padding, dilation and size of y that they mean
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
def test_each_pixel_lays_down_a_kernel(case, key):
    axes, options, image, stride, low, dilation, size = CASES[case]
    draw = np.random.default_rng(0)
    layer = MAKERS[axes][1](
        4, **options, kernel_init=lambda key, shape: jnp.array(draw.normal(size=shape))
    )
    params, state, out_shape = layer.init(key, (*image, 2))
    params["bias"] = jnp.arange(4.0)
    x = draw.normal(size=(2, *image, 2))
    y, _ = layer.apply(params, state, jnp.array(x))
    kernel, groups = np.asarray(params["kernel"]), options.get("groups", 1)
    wanted = laid_down(x, kernel, stride, low, dilation, size, groups) + np.arange(4)
    assert y.shape == (2, *out_shape) == wanted.shape
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-12)


# axes, the options of both, and an image of conv
ADJOINTS = {
    "same": (2, {"stride": 2}, (8, 6)),
    "same, dilated": (2, {"stride": 2, "dilation": 2, "kernel": (4, 3)}, (8, 6)),
    "int": (2, {"stride": 2, "padding": 1, "kernel": 4}, (8, 6)),
    "signal": (1, {"stride": 3}, (9,)),
    "volume": (3, {"stride": 2}, (4, 2, 4)),
}


@float64
@pytest.mark.parametrize("case", ADJOINTS)
def test_it_is_the_adjoint_of_conv(case):
    """⟨conv(z), x⟩ = ⟨z, conv_transpose(x)⟩ with the kernel's two channel axes exchanged."""
    axes, options, image = ADJOINTS[case]
    conv, transposed = MAKERS[axes]
    draw = np.random.default_rng(0)
    window = np.broadcast_to(options.get("kernel", 3), axes)
    kernel, z = (
        jnp.array(draw.normal(size=(*window, 2, 3))),
        jnp.array(draw.normal(size=(2, *image, 2))),
    )
    shared = options | {"use_bias": False}
    y, _ = conv(3, **shared).apply({"kernel": kernel}, {}, z)
    x = jnp.array(draw.normal(size=y.shape))
    back, _ = transposed(2, **shared).apply({"kernel": kernel.swapaxes(-1, -2)}, {}, x)
    np.testing.assert_allclose(jnp.vdot(y, x), jnp.vdot(z, back), rtol=1e-12)


def test_it_begins_with_he_and_zeros(key):
    params, _, _ = nn.conv_transpose(64, 5, groups=2).init(key, (8, 8, 16))
    chex.assert_shape(params["kernel"], (5, 5, 8, 64))
    chex.assert_trees_all_equal(params["bias"], jnp.zeros(64))
    assert (
        abs(np.std(params["kernel"]) * (5 * 5 * 8 / 2) ** 0.5 - 1) < 4 / (2 * 5 * 5 * 8 * 64) ** 0.5
    )


OPTIONS = {
    "channels": ({"channels": 0}, "conv_transpose channels: expected >= 1"),
    "kernel": ({"kernel": (3, 3, 3)}, "conv_transpose kernel: expected one int or two"),
    "groups": ({"groups": 3}, "conv_transpose channels: expected a multiple of groups=3"),
    "padding": ({"padding": "same"}, 'conv_transpose padding: expected "SAME"'),
    "output padding, negative": (
        {"output_padding": -1},
        "conv_transpose output_padding: expected >= 0",
    ),
    "output padding of no stride": (
        {"padding": 1, "output_padding": 1},
        r"conv_transpose output_padding: expected less than the stride \(1, 1\), got \(1, 1\)",
    ),
    "output padding of same": (
        {"stride": 2, "output_padding": 1},
        "output_padding: expected 0 with padding=.SAME.",
    ),
    "use_bias": ({"use_bias": None}, "conv_transpose use_bias: expected True or False"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_an_option_out_of_range_is_told_at_once(case):
    options, message = OPTIONS[case]
    with pytest.raises(ConfigError, match=message):
        nn.conv_transpose(**({"channels": 4} | options))


def test_what_does_not_fit_is_told(key):
    layer = nn.conv_transpose(4)
    good = {"kernel": jnp.ones((3, 3, 2, 4)), "bias": jnp.ones(4)}
    with pytest.raises(
        ShapeError, match=r"conv_transpose: expected \(height, width, channels\), got \(5, 5\)"
    ):
        layer.init(key, (5, 5))
    with pytest.raises(ShapeError, match=r"conv_transpose_3d x: expected rank 5 \(N, D, H, W, C\)"):
        nn.conv_transpose_3d(4).apply(good, {}, jnp.ones((1, 5, 5, 2)))
    with pytest.raises(
        ShapeError, match=r"conv_transpose x: expected \(..., 2\).*got \(1, 5, 5, 3\)"
    ):
        layer.apply(good, {}, jnp.ones((1, 5, 5, 3)))
    with pytest.raises(DTypeError, match=r"conv_transpose x: .*got uint8"):
        layer.apply(good, {}, jnp.ones((1, 5, 5, 2), jnp.uint8))
    with pytest.raises(TreeMismatchError, match=r"conv_transpose bias: .*no such leaf"):
        layer.apply({"kernel": good["kernel"]}, {}, jnp.ones((1, 5, 5, 2)))
    with pytest.raises(ShapeError, match="conv_transpose: expected an image of at least one pixel"):
        layer.init(key, (0, 5, 2))
    with pytest.raises(
        ShapeError, match=r"conv_transpose: expected something left.*got \(0, 0\); use less padding"
    ):
        nn.conv_transpose(4, 2, padding=1).init(key, (1, 1, 2))
    with pytest.raises(ShapeError, match="conv_transpose: expected input channels in groups=2"):
        nn.conv_transpose(4, groups=2).init(key, (5, 5, 3))
