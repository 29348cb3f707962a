"""Convolution layers, against torch and against the defining sum."""

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError

float64 = pytest.mark.usefixtures("x64")


def load_golden():
    with np.load(Path(__file__).parents[2] / "golden" / "convolution.npz") as file:
        return dict(file)


GOLDEN = load_golden()
CASES = sorted({name.split("/")[0] for name in GOLDEN})


@float64
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_torch(case):
    golden = {}
    for name, value in GOLDEN.items():
        if name.startswith(f"{case}/"):
            golden[name.split("/")[1]] = value
    sh, sw, ph, pw, dh, dw, groups = golden["options"].tolist()
    *window, _, channels = golden["kernel"].shape
    padding = ((ph, ph), (pw, pw))
    layer = nn.conv(
        channels, window, stride=(sh, sw), padding=padding, dilation=(dh, dw), groups=groups
    )

    @jax.jit
    def evaluate(params, x, weight):
        y, pull = jax.vjp(lambda params, x: layer.apply(params, {}, x)[0], params, x)
        return y, *pull(weight)

    params = {name: jnp.array(golden[name]) for name in ("kernel", "bias")}
    y, grads, dx = evaluate(params, jnp.array(golden["x"]), jnp.array(golden["weight"]))
    for got, name in ((y, "y"), (dx, "dx"), (grads["kernel"], "dkernel"), (grads["bias"], "dbias")):
        np.testing.assert_allclose(got, golden[name], rtol=1e-12, atol=1e-12)


def direct(x, kernel, stride, low, high, dilation, groups):
    """y[n,i,j,o] = Σ x[n, s i + d k, s j + d l, c] W[k,l,c,o], in a loop over outputs."""
    x = np.pad(x, ((0, 0), *zip(low, high, strict=True), (0, 0)))
    (kh, kw, inputs, channels), (sh, sw), (dh, dw) = kernel.shape, stride, dilation
    height = (x.shape[1] - (kh - 1) * dh - 1) // sh + 1
    width = (x.shape[2] - (kw - 1) * dw - 1) // sw + 1
    y = np.zeros((x.shape[0], height, width, channels))
    for i, j, o in np.ndindex(height, width, channels):
        first = o // (channels // groups) * inputs
        rows, columns = sh * i + dh * np.arange(kh), sw * j + dw * np.arange(kw)
        patch = x[:, rows][:, :, columns, first : first + inputs]
        y[:, i, j, o] = np.tensordot(patch, kernel[..., o], 3)
    return y


# (options of the layer, low and high padding for a 6 x 5 image)
DIRECT = {
    "same": ({}, (1, 1), (1, 1)),
    "same, even kernel": ({"kernel": (2, 4)}, (0, 1), (1, 2)),
    "same, strided": ({"stride": (2, 2)}, (0, 1), (1, 1)),
    "same, dilated": ({"dilation": (2, 1)}, (2, 1), (2, 1)),
    "valid": ({"padding": "VALID"}, (0, 0), (0, 0)),
    "int": ({"padding": 2, "kernel": (3, 2)}, (2, 2), (2, 2)),
    "pairs": ({"padding": ((0, 2), (1, 0)), "stride": (1, 2)}, (0, 1), (2, 0)),
    "groups": ({"groups": 2}, (1, 1), (1, 1)),
    "wide stride": ({"padding": "VALID", "kernel": 2, "stride": 3}, (0, 0), (0, 0)),
}


@float64
@pytest.mark.parametrize("case", DIRECT)
def test_images_equal_the_defining_sum(case, key):
    options, low, high = DIRECT[case]
    draw = np.random.default_rng(0)
    layer = nn.conv(4, **options, kernel_init=lambda key, shape: jnp.array(draw.normal(size=shape)))
    params, state, out_shape = layer.init(key, (6, 5, 2))
    params["bias"] = jnp.arange(4.0)
    x = draw.normal(size=(2, 6, 5, 2))
    y, _ = layer.apply(params, state, jnp.array(x))
    stride = np.broadcast_to(options.get("stride", 1), 2)
    dilation = np.broadcast_to(options.get("dilation", 1), 2)
    kernel = np.asarray(params["kernel"])
    expected = direct(x, kernel, stride, low, high, dilation, options.get("groups", 1))
    np.testing.assert_allclose(y, expected + np.arange(4), rtol=1e-12, atol=1e-12)
    assert y.shape == (2, *out_shape)


def direct_any_axes(x, kernel, stride, pads, dilation, groups):
    """The same sum for any number of axes, in a loop over output positions."""
    axes, (*window, inputs, channels) = len(stride), kernel.shape
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    reach = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    size = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:-1], reach, stride, strict=True)]
    y = np.zeros((x.shape[0], *size, channels))
    for position in np.ndindex(*size):
        window = []
        for s, p, r, d in zip(stride, position, reach, dilation, strict=True):
            window.append(slice(s * p, s * p + r, d))
        patch = x[:, *window]
        for o in range(channels):
            first = o // (channels // groups) * inputs
            group = patch[..., first : first + inputs]
            y[(slice(None), *position, o)] = np.tensordot(group, kernel[..., o], axes + 1)
    return y


# (maker, options of the layer, image, and the expected stride, padding and dilation)
AXES = {
    "signal": (nn.conv_1d, {}, (7,), (1,), [(1, 1)], (1,)),
    "signal, causal": (
        nn.conv_1d,
        {"padding": [(4, 0)], "dilation": 2},
        (7,),
        (1,),
        [(4, 0)],
        (2,),
    ),
    "signal, groups": (
        nn.conv_1d,
        {"groups": 2, "kernel": (2,), "stride": 2},
        (7,),
        (2,),
        [(0, 1)],
        (1,),
    ),
    "volume": (
        nn.conv_3d,
        {"kernel": (2, 3, 1)},
        (3, 4, 3),
        (1, 1, 1),
        [(0, 1), (1, 1), (0, 0)],
        (1, 1, 1),
    ),
    "volume, strided": (
        nn.conv_3d,
        {"stride": (2, 1, 2), "padding": 1},
        (4, 3, 3),
        (2, 1, 2),
        [(1, 1)] * 3,
        (1, 1, 1),
    ),
    "volume, groups": (
        nn.conv_3d,
        {"groups": 2, "padding": 2, "dilation": 2},
        (2, 3, 2),
        (1,) * 3,
        [(2, 2)] * 3,
        (2,) * 3,
    ),
}


@float64
@pytest.mark.parametrize("case", AXES)
def test_signals_and_volumes_equal_the_defining_sum(case, key):
    maker, options, image, stride, pads, dilation = AXES[case]
    draw = np.random.default_rng(0)
    layer = maker(4, **options, kernel_init=lambda key, shape: jnp.array(draw.normal(size=shape)))
    params, state, out_shape = layer.init(key, (*image, 2))
    params["bias"] = jnp.arange(4.0)
    x = draw.normal(size=(2, *image, 2))
    y, _ = layer.apply(params, state, jnp.array(x))
    kernel = np.asarray(params["kernel"])
    expected = direct_any_axes(x, kernel, stride, pads, dilation, options.get("groups", 1))
    np.testing.assert_allclose(y, expected + np.arange(4), rtol=1e-12, atol=1e-12)
    assert y.shape == (2, *out_shape)


RANKS = {
    "signal": (
        nn.conv_1d(4),
        (5, 5, 2),
        r"conv_1d: expected \(length, channels\)",
        r"conv_1d x: .*rank 3 \(N, L, C\)",
    ),
    "volume": (
        nn.conv_3d(4),
        (5, 2),
        r"conv_3d: expected \(depth, height, width, ch.*",
        r"conv_3d x: .*rank 5 \(N, D, H, W",
    ),
}


@pytest.mark.parametrize("case", RANKS)
def test_other_number_of_axes_raises(case, key):
    layer, shape, by_init, by_apply = RANKS[case]
    with pytest.raises(ShapeError, match=by_init):
        layer.init(key, shape)
    with pytest.raises(ShapeError, match=by_apply):
        layer.apply({}, {}, jnp.ones((1, *shape)))


def test_channels_first_raises_with_the_expected_layout(key):
    message = r"conv_1d: expected \(length, 3\), channels last \(NLC\), got \(3, 9\)"
    with pytest.raises(ShapeError, match=message):
        nn.conv_1d(4, in_channels=3).init(key, (3, 9))
    message = r"conv_3d: expected \(depth, height, width, 3\), channels last \(NDHWC\)"
    with pytest.raises(ShapeError, match=message):
        nn.conv_3d(4, in_channels=3).init(key, (3, 9, 9, 9))


def test_options_for_other_axes_raise():
    with pytest.raises(ConfigError, match=r"conv_1d padding: expected .*pair an axis"):
        nn.conv_1d(4, padding=(2, 0))
    with pytest.raises(ConfigError, match="conv_1d kernel: expected one int, got"):
        nn.conv_1d(4, (3, 3))
    with pytest.raises(ConfigError, match="conv_3d stride: expected one int or three"):
        nn.conv_3d(4, stride=(1, 2))
    with pytest.raises(ConfigError, match="conv_3d use_bias: expected True or False"):
        nn.conv_3d(4, use_bias=1)
    with pytest.raises(ConfigError, match="conv in_channels: expected >= 1"):
        nn.conv(4, in_channels=0)


def test_without_bias_zeros_stay_zeros(key):
    layer = nn.conv(3, use_bias=False)
    params, state, _ = layer.init(key, (4, 4, 2))
    assert params.keys() == {"kernel"}
    y, _ = layer.apply(params, state, jnp.zeros((1, 4, 4, 2)))
    chex.assert_trees_all_equal(y, jnp.zeros((1, 4, 4, 3)))


def test_initial_params_are_he_normal_and_zeros(key):
    params, _, _ = nn.conv(64, 5, groups=2).init(key, (8, 8, 16))
    chex.assert_shape(params["kernel"], (5, 5, 8, 64))
    chex.assert_trees_all_equal(params["bias"], jnp.zeros(64))
    fan_in = 5 * 5 * 8
    standard_error = 1 / (2 * fan_in * 64) ** 0.5
    assert abs(np.std(params["kernel"]) * (fan_in / 2) ** 0.5 - 1) < 4 * standard_error


def test_kernel_init_is_used(key):
    layer = nn.conv(3, kernel_init=lambda key, shape: jnp.full(shape, 7.0))
    params, _, _ = layer.init(key, (4, 4, 2))
    chex.assert_trees_all_equal(params["kernel"], jnp.full((3, 3, 2, 3), 7.0))


@pytest.mark.parametrize("padding", [[[0, 1], [1, 0]], [(0, 1), (1, 0)], ([0, 1], [1, 0])])
def test_padding_may_be_lists(padding, key):
    layer = nn.conv(2, padding=padding)
    params, _, out_shape = layer.init(key, (4, 4, 1))
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    got, _ = layer.apply(params, {}, x)
    expected, _ = nn.conv(2, padding=((0, 1), (1, 0))).apply(params, {}, x)
    chex.assert_trees_all_equal(got, expected)
    assert out_shape == (3, 3, 2)


def test_kernel_stride_and_dilation_may_be_lists(key):
    layer = nn.conv(2, [2, 3], stride=[2, 1], dilation=[1, 2], padding="VALID")
    params, _, out_shape = layer.init(key, (6, 7, 1))
    y, _ = layer.apply(params, {}, jnp.ones((1, 6, 7, 1)))
    assert y.shape == (1, *out_shape) == (1, 3, 3, 2)


OPTIONS = {
    "no channels": ({"channels": 0}, "conv channels: expected >= 1, got 0"),
    "float channels": ({"channels": 2.0}, "conv channels: expected a whole number"),
    "no kernel": ({"kernel": 0}, "conv kernel: expected >= 1"),
    "kernel of three axes": ({"kernel": (3, 3, 3)}, "conv kernel: expected one int or two"),
    "stride 0": ({"stride": 0}, "conv stride: expected >= 1"),
    "stride -1": ({"stride": (1, -1)}, "conv stride: expected >= 1"),
    "dilation 0": ({"dilation": 0}, "conv dilation: expected >= 1"),
    "groups 0": ({"groups": 0}, "conv groups: expected >= 1"),
    "groups that do not divide": (
        {"groups": 3},
        "conv channels: expected a multiple of groups=3, got 4",
    ),
    "padding -1": ({"padding": -1}, "conv padding: expected >= 0"),
    "padding by name": ({"padding": "same"}, 'conv padding: expected "SAME"'),
    "padding of three axes": ({"padding": ((1, 1), (1, 1), (1, 1))}, "conv padding: expected"),
    "padding of one axis": ({"padding": ((1, 1),)}, "conv padding: expected"),
    "padding by float": ({"padding": 1.5}, "conv padding: expected"),
    "padding by boolean": ({"padding": True}, "conv padding: expected"),
    "padding by None": ({"padding": None}, "conv padding: expected"),
    "padding of floats": (
        {"padding": ((1.0, 1.0), (1.0, 1.0))},
        "conv padding: expected a whole number",
    ),
    "padding of negatives": ({"padding": ((0, -1), (0, 0))}, "conv padding: expected >= 0"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_invalid_option_raises(case):
    options, message = OPTIONS[case]
    with pytest.raises(ConfigError, match=message):
        nn.conv(**({"channels": 4} | options))


SHAPES = {
    "no channel axis": (
        {},
        (28, 28),
        r"conv: expected \(height, width, channels\), got \(28, 28\)",
    ),
    "one vector": ({}, (28,), r"conv: expected \(height, width, channels\), got \(28,\)"),
    "NCHW": (
        {"in_channels": 3},
        (3, 32, 32),
        r"conv: expected \(height, width, 3\), channels last \(NHWC\)",
    ),
    "groups": ({"groups": 2}, (5, 5, 3), "conv: expected input channels in groups=2"),
    "small image": (
        {"kernel": 5, "padding": "VALID"},
        (4, 9, 1),
        r"conv: expected an image of at least \(5, 5\)",
    ),
    "dilated": (
        {"dilation": 2, "padding": "VALID"},
        (4, 9, 1),
        r"conv: expected an image of at least \(5, 5\)",
    ),
    "no inputs": ({}, (5, 5, 0), "conv: expected"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_init_raises_for_wrong_shapes(case, key):
    options, shape, message = SHAPES[case]
    with pytest.raises(ShapeError, match=message):
        nn.conv(4, **options).init(key, shape)


GOOD = {"kernel": jnp.ones((3, 3, 2, 4)), "bias": jnp.ones(4)}
X = jnp.ones((1, 5, 5, 2))
ERRORS = {
    "uint8": (
        GOOD,
        jnp.ones((1, 5, 5, 2), jnp.uint8),
        DTypeError,
        "conv x: .*got uint8; scale first",
    ),
    "no batch": (
        GOOD,
        jnp.ones((5, 5, 2)),
        ShapeError,
        r"conv x: expected rank 4 \(N, H, W, C\), got \(5, 5, 2\)",
    ),
    "inputs": (
        GOOD,
        jnp.ones((1, 5, 5, 3)),
        ShapeError,
        r"conv x: expected \(..., 2\).*got \(1, 5, 5, 3\)",
    ),
    "missing": ({"kernel": GOOD["kernel"]}, X, TreeMismatchError, "conv bias: .*no such leaf"),
    "extra": (
        GOOD | {"scale": jnp.ones(4)},
        X,
        TreeMismatchError,
        "conv scale: expected no such leaf",
    ),
    "window": (
        GOOD | {"kernel": jnp.ones((1, 3, 2, 4))},
        X,
        TreeMismatchError,
        "conv kernel: expected shape",
    ),
    "channels": (
        GOOD | {"kernel": jnp.ones((3, 3, 2, 5))},
        X,
        TreeMismatchError,
        "conv kernel: expected shape",
    ),
    "bias": (
        GOOD | {"bias": jnp.ones(1)},
        X,
        TreeMismatchError,
        r"conv bias: expected shape \(4,\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_apply_raises_for_wrong_inputs_or_params(case):
    params, x, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        nn.conv(4).apply(params, {}, x)


def test_apply_raises_for_a_small_image():
    message = r"conv: expected an image of at least \(3, 3\) after padding, got \(5, 2\)"
    with pytest.raises(ShapeError, match=message):
        nn.conv(4, padding="VALID").apply(GOOD, {}, jnp.ones((1, 5, 2, 2)))
