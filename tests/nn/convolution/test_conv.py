"""The convolution layer is held to torch and to the sum that defines it."""

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError

float64 = pytest.mark.usefixtures("x64")


def golden():
    with np.load(Path(__file__).parents[2] / "golden" / "convolution.npz") as file:
        return dict(file)


GOLDEN = golden()
CASES = sorted({name.split("/")[0] for name in GOLDEN})


@float64
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_torch(case):
    own = {
        name.split("/")[1]: value for name, value in GOLDEN.items() if name.startswith(f"{case}/")
    }
    sh, sw, ph, pw, dh, dw, groups = own["options"].tolist()
    *window, _, channels = own["kernel"].shape
    padding = ((ph, ph), (pw, pw))
    layer = nn.conv(
        channels, window, stride=(sh, sw), padding=padding, dilation=(dh, dw), groups=groups
    )

    @jax.jit
    def evaluate(params, x, weight):
        y, pull = jax.vjp(lambda params, x: layer.apply(params, {}, x)[0], params, x)
        return y, *pull(weight)

    params = {name: jnp.array(own[name]) for name in ("kernel", "bias")}
    y, grads, dx = evaluate(params, jnp.array(own["x"]), jnp.array(own["weight"]))
    for got, name in ((y, "y"), (dx, "dx"), (grads["kernel"], "dkernel"), (grads["bias"], "dbias")):
        np.testing.assert_allclose(got, own[name], rtol=1e-12, atol=1e-12)


def direct(x, kernel, stride, low, high, dilation, groups):
    """y[n,i,j,o] = Σ x[n, s i + d k, s j + d l, c] W[k,l,c,o], one output after another."""
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


# options of the layer, and the padding that they mean for a 6 x 5 image
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
def test_it_is_the_sum_that_defines_it(case, key):
    options, low, high = DIRECT[case]
    draw = np.random.default_rng(0)
    layer = nn.conv(4, **options, kernel_init=lambda key, shape: jnp.array(draw.normal(size=shape)))
    params, state, out_shape = layer.init(key, (6, 5, 2))
    params["bias"] = jnp.arange(4.0)
    x = draw.normal(size=(2, 6, 5, 2))
    y, _ = layer.apply(params, state, jnp.array(x))
    stride = np.broadcast_to(options.get("stride", 1), 2)
    dilation = np.broadcast_to(options.get("dilation", 1), 2)
    wanted = direct(
        x, np.asarray(params["kernel"]), stride, low, high, dilation, options.get("groups", 1)
    )
    np.testing.assert_allclose(y, wanted + np.arange(4), rtol=1e-12, atol=1e-12)
    assert y.shape == (2, *out_shape)


def one_after_another(x, kernel, stride, pads, dilation, groups):
    """The same sum for any number of axes, one output place after another."""
    axes, (*window, inputs, channels) = len(stride), kernel.shape
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    reach = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    size = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:-1], reach, stride, strict=True)]
    y = np.zeros((x.shape[0], *size, channels))
    for place in np.ndindex(*size):
        seen = [
            slice(s * p, s * p + r, d)
            for s, p, r, d in zip(stride, place, reach, dilation, strict=True)
        ]
        patch = x[:, *seen]
        for o in range(channels):
            first = o // (channels // groups) * inputs
            y[(slice(None), *place, o)] = np.tensordot(
                patch[..., first : first + inputs], kernel[..., o], axes + 1
            )
    return y


# maker, options of the layer, image, and the stride, padding and dilation that they mean
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
def test_signals_and_volumes_are_the_sum_that_defines_them(case, key):
    maker, options, image, stride, pads, dilation = AXES[case]
    draw = np.random.default_rng(0)
    layer = maker(4, **options, kernel_init=lambda key, shape: jnp.array(draw.normal(size=shape)))
    params, state, out_shape = layer.init(key, (*image, 2))
    params["bias"] = jnp.arange(4.0)
    x = draw.normal(size=(2, *image, 2))
    y, _ = layer.apply(params, state, jnp.array(x))
    kernel = np.asarray(params["kernel"])
    wanted = one_after_another(
        x, kernel, stride, pads, dilation, options.get("groups", 1)
    ) + np.arange(4)
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-12)
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
def test_an_array_of_other_axes_is_told(case, key):
    layer, shape, by_init, by_apply = RANKS[case]
    with pytest.raises(ShapeError, match=by_init):
        layer.init(key, shape)
    with pytest.raises(ShapeError, match=by_apply):
        layer.apply({}, {}, jnp.ones((1, *shape)))


def test_channels_that_come_first_are_told_of_every_layout(key):
    with pytest.raises(
        ShapeError, match=r"conv_1d: expected \(length, 3\), channels last \(NLC\), got \(3, 9\)"
    ):
        nn.conv_1d(4, in_channels=3).init(key, (3, 9))
    with pytest.raises(
        ShapeError, match=r"conv_3d: expected \(depth, height, width, 3\), channels last \(NDHWC\)"
    ):
        nn.conv_3d(4, in_channels=3).init(key, (3, 9, 9, 9))


def test_options_are_those_of_their_axes():
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


def test_without_bias_nothing_is_added(key):
    layer = nn.conv(3, use_bias=False)
    params, state, _ = layer.init(key, (4, 4, 2))
    assert params.keys() == {"kernel"}
    chex.assert_trees_all_equal(
        layer.apply(params, state, jnp.zeros((1, 4, 4, 2)))[0], jnp.zeros((1, 4, 4, 3))
    )


def test_it_begins_with_he_and_zeros(key):
    params, _, _ = nn.conv(64, 5, groups=2).init(key, (8, 8, 16))
    chex.assert_shape(params["kernel"], (5, 5, 8, 64))
    chex.assert_trees_all_equal(params["bias"], jnp.zeros(64))
    assert (
        abs(np.std(params["kernel"]) * (5 * 5 * 8 / 2) ** 0.5 - 1) < 4 / (2 * 5 * 5 * 8 * 64) ** 0.5
    )


def test_it_begins_as_it_is_told(key):
    layer = nn.conv(3, kernel_init=lambda key, shape: jnp.full(shape, 7.0))
    chex.assert_trees_all_equal(
        layer.init(key, (4, 4, 2))[0]["kernel"], jnp.full((3, 3, 2, 3), 7.0)
    )


@pytest.mark.parametrize("padding", [[[0, 1], [1, 0]], [(0, 1), (1, 0)], ([0, 1], [1, 0])])
def test_padding_may_be_lists(padding, key):
    layers = nn.conv(2, padding=padding), nn.conv(2, padding=((0, 1), (1, 0)))
    params, _, out_shape = layers[0].init(key, (4, 4, 1))
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    got, wanted = (layer.apply(params, {}, x)[0] for layer in layers)
    chex.assert_trees_all_equal(got, wanted)
    assert out_shape == (3, 3, 2)


def test_kernel_stride_and_dilation_may_be_lists(key):
    layer = nn.conv(2, [2, 3], stride=[2, 1], dilation=[1, 2], padding="VALID")
    params, _, out_shape = layer.init(key, (6, 7, 1))
    assert (
        layer.apply(params, {}, jnp.ones((1, 6, 7, 1)))[0].shape == (1, *out_shape) == (1, 3, 3, 2)
    )


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
def test_an_option_out_of_range_is_told_at_once(case):
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
def test_a_shape_that_does_not_fit_is_told_by_init(case, key):
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
def test_what_does_not_fit_is_told_by_apply(case):
    params, x, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        nn.conv(4).apply(params, {}, x)


def test_a_small_image_is_told_by_apply():
    with pytest.raises(
        ShapeError,
        match=r"conv: expected an image of at least \(3, 3\) after padding, got \(5, 2\)",
    ):
        nn.conv(4, padding="VALID").apply(GOOD, {}, jnp.ones((1, 5, 2, 2)))
