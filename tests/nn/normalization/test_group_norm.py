"""Group and instance normalization are compared with their formula in NumPy and each other."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError

float64 = pytest.mark.usefixtures("x64")
PARAMS = {"scale": np.linspace(-1, 2, 6), "bias": np.linspace(3, 4, 6)}


def draw(shape):
    return np.random.default_rng(0).normal(size=shape)


def formula(x, groups):
    """The normalization without scale and bias, one group after another."""
    parts = []
    for part in np.split(x, groups, -1):
        flat = part.reshape(len(x), -1)
        mean, var = (
            each.reshape(-1, *[1] * (x.ndim - 1))
            for each in (flat.mean(1, keepdims=True), flat.var(1, keepdims=True))
        )
        parts.append((part - mean) / np.sqrt(var + 0.01))
    return np.concatenate(parts, -1)


def params(dtype=None):
    return {name: jnp.array(leaf, dtype) for name, leaf in PARAMS.items()}


@float64
@pytest.mark.parametrize("shape", [(3, 6), (3, 5, 6), (3, 8, 9, 6), (2, 3, 2, 2, 6), (0, 4, 6)])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_group_norm_follows_its_formula(shape, groups):
    x = draw(shape)
    y, state = jax.jit(nn.group_norm(groups, eps=0.01).apply)(params(), {}, x)
    wanted = PARAMS["scale"] * formula(x, groups) + PARAMS["bias"] if x.size else x
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-13)
    assert state == {}


@float64
@pytest.mark.parametrize("shape", [(3, 5, 6), (3, 4, 5, 6), (2, 3, 2, 2, 6)])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_instance_norm_follows_its_formula(shape, affine, train):
    x = draw(shape)
    layer = nn.instance_norm(eps=0.01, affine=affine)
    apply = jax.jit(partial(layer.apply, train=train))
    y, state = apply(params() if affine else {}, {}, x)
    wanted = formula(x, 6)
    np.testing.assert_allclose(
        y, PARAMS["scale"] * wanted + PARAMS["bias"] if affine else wanted, rtol=1e-12, atol=1e-13
    )
    assert state == {}


@float64
def test_one_group_is_layer_norm_and_single_channels_are_instance_norm():
    x = jnp.array(draw((3, 4, 5, 6)))

    def output(layer):
        return jax.jit(layer.apply)({}, {}, x)[0]

    whole, single = (output(nn.group_norm(groups, affine=False)) for groups in (1, 6))
    by_layer = output(nn.layer_norm(axes=3, affine=False))
    chex.assert_trees_all_close(whole, by_layer, rtol=1e-12)
    chex.assert_trees_all_close(single, output(nn.instance_norm()), rtol=1e-12)


@float64
def test_examples_are_independent():
    x = draw((3, 4, 5, 6))
    for layer in (nn.group_norm(2, affine=False), nn.instance_norm()):
        apply = jax.jit(layer.apply)
        alone = [apply({}, {}, x[i : i + 1])[0] for i in range(3)]
        chex.assert_trees_all_close(apply({}, {}, x)[0], jnp.concatenate(alone), rtol=1e-13)


@pytest.mark.parametrize("layer", [nn.group_norm(2), nn.instance_norm(affine=True)])
def test_scale_begins_at_1_and_bias_at_0(layer, key):
    params, state, out_shape = layer.init(key, (4, 5, 6))
    chex.assert_trees_all_equal(params, {"scale": jnp.ones(6), "bias": jnp.zeros(6)})
    assert (state, out_shape) == ({}, (4, 5, 6))


@pytest.mark.parametrize("layer", [nn.group_norm(2, affine=False), nn.instance_norm()])
def test_without_affine_there_are_no_params(layer, key):
    assert layer.init(key, (4, 5, 6)) == ({}, {}, (4, 5, 6))
    with pytest.raises(TreeMismatchError, match="scale: expected no such leaf"):
        layer.apply(params("float32"), {}, jnp.ones((2, 4, 5, 6)))


@pytest.mark.parametrize("layer", [nn.group_norm(2), nn.instance_norm(affine=True)])
def test_bfloat16_is_normalized_in_float32(layer):
    x = jnp.asarray(10 + draw((2, 8, 8, 6)), jnp.bfloat16)
    half = params("bfloat16")
    apply = jax.jit(layer.apply)
    full = {name: leaf.astype(jnp.float32) for name, leaf in half.items()}
    wanted, _ = apply(full, {}, x.astype(jnp.float32))
    chex.assert_trees_all_equal(apply(half, {}, x)[0], wanted.astype(jnp.bfloat16))


WRONG_SHAPES = {
    "groups that do not divide": (
        nn.group_norm(4),
        (5, 5, 6),
        "group_norm: expected channels in 4 groups",
    ),
    "more groups than channels": (
        nn.group_norm(12),
        (5, 5, 6),
        "group_norm: expected channels in 12 groups",
    ),
    "no channel": (nn.group_norm(2), (), "group_norm: expected channels in 2 groups"),
    "one value a group": (
        nn.group_norm(6),
        (1, 1, 6),
        "group_norm: expected more than 1 value to each mean",
    ),
    "one pixel": (
        nn.instance_norm(),
        (1, 1, 6),
        "instance_norm: expected more than 1 value to each mean",
    ),
    "no pixel axis": (
        nn.instance_norm(),
        (6,),
        "instance_norm: expected more than 1 value to each mean",
    ),
    "an empty image": (
        nn.instance_norm(),
        (0, 4, 6),
        "instance_norm: expected more than 1 value to each mean",
    ),
    "no channels": (
        nn.instance_norm(),
        (4, 4, 0),
        r"instance_norm: expected a shape \(..., channels\)",
    ),
    "nothing": (nn.instance_norm(), (), r"instance_norm: expected a shape \(..., channels\)"),
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("case", WRONG_SHAPES)
def test_a_shape_that_cannot_be_normalized_raises(case, train, key):
    layer, shape, message = WRONG_SHAPES[case]
    with pytest.raises(ShapeError, match=message):
        layer.init(key, shape)
    with pytest.raises(ShapeError, match=message):
        layer.apply({}, {}, jnp.ones((2, *shape)), train=train)


@pytest.mark.parametrize("groups", [0, -1, 2.0, "2", None, True])
def test_an_invalid_number_of_groups_raises(groups):
    with pytest.raises(ConfigError, match="group_norm groups: expected"):
        nn.group_norm(groups)


@pytest.mark.parametrize(
    "make", [lambda eps: nn.group_norm(2, eps=eps), lambda e: nn.instance_norm(eps=e)]
)
@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan"), None])
def test_an_invalid_eps_raises(make, eps):
    with pytest.raises(ConfigError, match="_norm eps: expected"):
        make(eps)


@pytest.mark.parametrize("layer", [nn.group_norm(2), nn.instance_norm()])
def test_integers_raise(layer):
    with pytest.raises(DTypeError, match=r"_norm x: expected floating.*got uint8"):
        layer.apply({}, {}, jnp.ones((2, 4, 4, 6), jnp.uint8))
