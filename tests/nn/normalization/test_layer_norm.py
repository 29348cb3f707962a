"""Normalization over features is compared with its formula in NumPy; offsets and scales vanish."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError

float64 = pytest.mark.usefixtures("x64")
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(2, 3, 4, 5))


def draw_params(names, shape):
    return {name: np.random.default_rng(len(name)).normal(size=shape) for name in names}


def arrays(tree, dtype=None):
    return {name: jnp.array(leaf, dtype) for name, leaf in tree.items()}


@float64
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_follows_its_formula(axes, affine):
    params_shape = X.shape[-axes:]
    over = tuple(range(-axes, 0))
    params = draw_params(("scale", "bias") if affine else (), params_shape)
    layer = nn.layer_norm(axes=axes, eps=0.01, affine=affine)
    y, state = jax.jit(layer.apply)(params, {}, X)
    wanted = (X - X.mean(over, keepdims=True)) / np.sqrt(X.var(over, keepdims=True) + 0.01)
    np.testing.assert_allclose(
        y, params.get("scale", 1) * wanted + params.get("bias", 0), rtol=1e-12, atol=1e-13
    )
    assert state == {}


@float64
@pytest.mark.parametrize("affine", [True, False])
def test_rms_norm_follows_its_formula(affine):
    params = draw_params(("scale",) if affine else (), 5)
    y, state = nn.rms_norm(eps=0.01, affine=affine).apply(arrays(params), {}, jnp.array(X))
    wanted = params.get("scale", 1) * X / np.sqrt((X**2).mean(-1, keepdims=True) + 0.01)
    np.testing.assert_allclose(y, wanted, rtol=1e-13)
    assert state == {}


@float64
def test_layer_norm_removes_offset_and_scale_and_rms_norm_only_scale():
    x, offset, factor = (
        jnp.array(a) for a in (X, DRAW.normal(size=(2, 3, 4, 1)), DRAW.uniform(1, 9, (2, 3, 4, 1)))
    )
    layer, rms = (make(eps=1e-30, affine=False) for make in (nn.layer_norm, nn.rms_norm))
    chex.assert_trees_all_close(
        layer.apply({}, {}, factor * x + offset)[0], layer.apply({}, {}, x)[0], rtol=1e-10
    )
    chex.assert_trees_all_close(
        rms.apply({}, {}, factor * x)[0], rms.apply({}, {}, x)[0], rtol=1e-12
    )
    assert jnp.abs(rms.apply({}, {}, x + offset)[0] - rms.apply({}, {}, x)[0]).max() > 0.1


LAYERS = {
    "layer_norm": (nn.layer_norm(), {"scale": (4,), "bias": (4,)}),
    "layer_norm of two axes": (nn.layer_norm(axes=2), {"scale": (3, 4), "bias": (3, 4)}),
    "layer_norm bare": (nn.layer_norm(affine=False), {}),
    "rms_norm": (nn.rms_norm(), {"scale": (4,)}),
    "rms_norm bare": (nn.rms_norm(affine=False), {}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_scale_begins_at_1_and_bias_at_0(name, key):
    layer, shapes = LAYERS[name]
    params, state, out_shape = layer.init(key, (3, 4))
    initial_values = {"scale": jnp.ones, "bias": jnp.zeros}
    chex.assert_trees_all_equal(
        params, {name: initial_values[name](shape) for name, shape in shapes.items()}
    )
    assert (state, out_shape) == ({}, (3, 4))


@pytest.mark.parametrize("make", [nn.layer_norm, nn.rms_norm])
def test_bfloat16_is_normalized_in_float32(make, key):
    layer = make()
    params, _, _ = layer.init(key, (64,))
    params = jax.tree.map(lambda leaf: leaf + jnp.linspace(0, 1, 64), params)
    x = jnp.asarray(10 + np.random.default_rng(1).normal(size=(8, 64)), jnp.bfloat16)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    y, _ = layer.apply(half, {}, x)
    whole = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (half, x))
    chex.assert_trees_all_equal(y, layer.apply(whole[0], {}, whole[1])[0].astype(jnp.bfloat16))


@pytest.mark.parametrize("name", LAYERS)
def test_constant_features_have_finite_gradients(name, key):
    layer, _ = LAYERS[name]
    params, _, _ = layer.init(key, (3, 4))
    for value in (0.0, 5.0):
        loss = jax.jit(jax.grad(lambda x: (layer.apply(params, {}, x)[0] ** 2).sum()))
        chex.assert_tree_all_finite(loss(jnp.full((2, 3, 4), value)))


def test_a_single_feature_becomes_its_bias():
    y, _ = nn.layer_norm().apply(
        {"scale": jnp.ones(1), "bias": jnp.full(1, 2.0)}, {}, jnp.array([[5.0], [7.0]])
    )
    chex.assert_trees_all_equal(y, jnp.full((2, 1), 2.0))


@pytest.mark.parametrize("make", [nn.layer_norm, nn.rms_norm])
@pytest.mark.parametrize("value", [0.0, -1e-5, float("inf"), "small", None])
def test_an_invalid_eps_raises(make, value):
    with pytest.raises(ConfigError, match=f"{make.__name__} eps: expected"):
        make(eps=value)


@pytest.mark.parametrize("axes", [0, -1, 1.0, (1, 2), None])
def test_an_invalid_number_of_axes_raises(axes):
    with pytest.raises(ConfigError, match="layer_norm axes: expected"):
        nn.layer_norm(axes=axes)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.layer_norm(), ()),
        (nn.layer_norm(), (3, 0)),
        (nn.layer_norm(axes=3), (3, 4)),
        (nn.rms_norm(), ()),
    ],
)
def test_an_example_without_the_features_raises(layer, shape, key):
    with pytest.raises(
        ShapeError, match=r"_norm: expected a shape that ends in \d axes of features"
    ):
        layer.init(key, shape)
    with pytest.raises(
        ShapeError, match=r"_norm: expected a shape that ends in \d axes of features"
    ):
        layer.apply({}, {}, jnp.ones((2, *shape)))


GOOD = {"scale": jnp.ones(4), "bias": jnp.ones(4)}
ERRORS = {
    "uint8": (GOOD, jnp.ones((2, 4), jnp.uint8), DTypeError, "layer_norm x: .*got uint8"),
    "width": (
        GOOD,
        jnp.ones((2, 5)),
        TreeMismatchError,
        r"layer_norm scale: expected shape \(5,\), got shape \(4,\)",
    ),
    "missing": (
        {"scale": GOOD["scale"]},
        jnp.ones((2, 4)),
        TreeMismatchError,
        "layer_norm bias: .*no such leaf",
    ),
    "extra": (
        GOOD | {"kernel": jnp.ones(4)},
        jnp.ones((2, 4)),
        TreeMismatchError,
        "kernel: expected no such leaf",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_inputs_and_params_raise(case):
    params, x, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        nn.layer_norm().apply(params, {}, x)
