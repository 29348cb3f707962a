"""The dense layer is compared with NumPy's matrix product and with torch."""

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError

float64 = pytest.mark.usefixtures("x64")


@float64
@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4), (0, 4)])
def test_dense_maps_the_last_axis(shape):
    draw = np.random.default_rng(0)
    x, kernel, bias = draw.normal(size=shape), draw.normal(size=(4, 3)), draw.normal(size=3)
    params = {"kernel": jnp.array(kernel), "bias": jnp.array(bias)}
    y, state = nn.dense(3).apply(params, {}, jnp.array(x))
    np.testing.assert_allclose(y, x @ kernel + bias, rtol=1e-13)
    assert state == {}


@float64
def test_values_and_gradients_of_dense_equal_torch():
    with np.load(Path(__file__).parents[1] / "golden" / "dense.npz") as file:
        arrays = dict(file)
    params = {name: jnp.array(arrays[name]) for name in ("kernel", "bias")}
    y, pull = jax.vjp(
        lambda params, x: nn.dense(3).apply(params, {}, x)[0], params, jnp.array(arrays["x"])
    )
    grads, dx = pull(jnp.array(arrays["weight"]))
    np.testing.assert_allclose(y, arrays["y"], rtol=1e-13)
    np.testing.assert_allclose(dx, arrays["dx"], rtol=1e-13)
    np.testing.assert_allclose(grads["kernel"], arrays["dkernel"], rtol=1e-12)
    np.testing.assert_allclose(grads["bias"], arrays["dbias"], rtol=1e-12)


def test_dense_without_bias_is_linear(key):
    layer = nn.dense(3, use_bias=False)
    params, _, _ = layer.init(key, (4,))
    assert params.keys() == {"kernel"}
    x = jnp.arange(8.0).reshape(2, 4)
    chex.assert_trees_all_close(
        layer.apply(params, {}, x)[0], jnp.dot(x, params["kernel"]), rtol=1e-6
    )


@pytest.mark.parametrize("shape", [(4,), (6, 4)])
def test_init_and_apply_of_dense_agree_on_the_shape(shape, key):
    layer = nn.dense(3)
    params, state, out_shape = layer.init(key, shape)
    assert layer.apply(params, state, jnp.ones((2, *shape)))[0].shape == (2, *out_shape)


def test_dense_begins_with_lecun_normal_and_zeros(key):
    params, _, _ = nn.dense(50).init(key, (200,))
    chex.assert_trees_all_equal(params["bias"], jnp.zeros(50))
    assert abs(np.std(params["kernel"]) * 200**0.5 - 1) < 4 / (2 * 10_000) ** 0.5


def test_dense_uses_kernel_init(key):
    layer = nn.dense(3, kernel_init=lambda key, shape: jnp.full(shape, 7.0))
    chex.assert_trees_all_equal(layer.init(key, (2,))[0]["kernel"], jnp.full((2, 3), 7.0))


def test_groups_are_independent_layers(key):
    layer = nn.dense(6, groups=3)
    params, _, out_shape = layer.init(key, (4, 12))
    assert out_shape == (4, 6) and params["kernel"].shape == (4, 6)
    x = jax.random.normal(jax.random.key(1), (2, 4, 12))
    bias = jnp.arange(6.0)
    y, _ = layer.apply({**params, "bias": bias}, {}, x)
    for group in range(3):
        inputs, outputs = slice(4 * group, 4 * group + 4), slice(2 * group, 2 * group + 2)
        own = {"kernel": params["kernel"][:, outputs], "bias": bias[outputs]}
        expected, _ = nn.dense(2).apply(own, {}, x[..., inputs])
        np.testing.assert_allclose(y[..., outputs], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_network_of_groups_is_a_packed_ensemble(key):
    def network(n):
        return nn.chain(
            nn.conv(2 * n), nn.relu(), nn.conv(3 * n, groups=n), nn.global_avg_pool(),
            nn.dense(4 * n, groups=n), nn.reshape((n, 4)),
        )  # fmt: skip

    params, _, out_shape = network(3).init(key, (5, 5, 2))
    assert out_shape == (3, 4)
    x = jax.random.normal(jax.random.key(1), (2, 5, 5, 2))
    y, _ = network(3).apply(params, {}, x)
    for member in range(3):

        def take(leaf, member=member):
            width = leaf.shape[-1] // 3
            return leaf[..., member * width : (member + 1) * width]

        expected, _ = network(1).apply(jax.tree.map(take, params), {}, x)
        np.testing.assert_allclose(y[:, member], expected[:, 0], rtol=1e-4, atol=1e-5)


def test_the_variance_of_a_kernel_of_groups_is_that_of_one_group(key):
    params, _, _ = nn.dense(400, groups=4).init(key, (400,))
    assert abs(params["kernel"].var() * 100 - 1) < 0.05


def test_wrong_groups_raise(key):
    with pytest.raises(ConfigError, match="dense units: expected a multiple of groups=2, got 3"):
        nn.dense(3, groups=2)
    with pytest.raises(ShapeError, match="dense: expected features in groups=2"):
        nn.dense(4, groups=2).init(key, (5,))
    params, _, _ = nn.dense(4, groups=2).init(key, (4,))
    with pytest.raises(ShapeError, match=r"dense x: expected \(..., 4\)"):
        nn.dense(4, groups=2).apply(params, {}, jnp.ones((1, 6)))


@pytest.mark.parametrize("units", [0, -1, 2.0, "3", True, None])
def test_invalid_units_raise(units):
    with pytest.raises(ConfigError, match="dense units: expected"):
        nn.dense(units)


GOOD = {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}
ERRORS = {
    "uint8": (
        GOOD,
        jnp.ones((2, 4), jnp.uint8),
        DTypeError,
        "dense x: expected floating.*got uint8",
    ),
    "int32": (
        GOOD,
        jnp.ones((2, 4), jnp.int32),
        DTypeError,
        "dense x: expected floating.*got int32",
    ),
    "bool": (GOOD, jnp.ones((2, 4), bool), DTypeError, "dense x: expected floating.*got bool"),
    "width": (GOOD, jnp.ones((2, 5)), ShapeError, r"dense x: expected \(..., 4\).*got \(2, 5\)"),
    "missing": (
        {"kernel": GOOD["kernel"]},
        jnp.ones((2, 4)),
        TreeMismatchError,
        "dense bias: .*no such leaf",
    ),
    "extra": (
        GOOD | {"b2": jnp.ones(3)},
        jnp.ones((2, 4)),
        TreeMismatchError,
        "dense b2: expected no such leaf",
    ),
    "kernel": (
        GOOD | {"kernel": jnp.ones((4, 2))},
        jnp.ones((2, 4)),
        TreeMismatchError,
        r"\(4, 3\), got .*\(4, 2\)",
    ),
    "bias": (
        GOOD | {"bias": jnp.ones(1)},
        jnp.ones((2, 4)),
        TreeMismatchError,
        r"bias: expected .*\(3,\), got .*\(1,\)",
    ),
    "no dict": (list(GOOD.values()), jnp.ones((2, 4)), TreeMismatchError, "dense: expected a dict"),
    "empty": ({}, jnp.ones((2, 4)), TreeMismatchError, "dense kernel: .*no such leaf"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_inputs_and_params_of_dense_raise(case):
    params, x, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        nn.dense(3).apply(params, {}, x)


def test_an_example_without_a_feature_axis_raises(key):
    with pytest.raises(ShapeError, match=r"dense: expected a shape \(..., inputs\), got \(\)"):
        nn.dense(3).init(key, ())


def test_an_example_with_zero_features_raises(key):
    with pytest.raises(ShapeError, match="dense"):
        nn.dense(3).init(key, (0,))


@pytest.mark.parametrize("key", [0, None, np.array([0, 1], np.uint32)])
def test_an_invalid_key_raises(key):
    with pytest.raises(DTypeError, match=r"key: expected a key from jax\.random\.key"):
        nn.dense(3).init(key, (4,))


PARAMETER = nn.parameter(2, 3, init=nn.normal(1.0))
X = jnp.ones((5, 4), jnp.int32)


@pytest.mark.parametrize("x", [X, jnp.ones(5), (jnp.ones((5, 7)), jnp.ones(5))])
def test_a_parameter_is_the_same_for_every_example_and_x(x, key):
    params, state, out_shape = PARAMETER.init(key, (4,))
    wanted = nn.normal(1.0)(jax.random.clone(key), (2, 3))
    y, _ = PARAMETER.apply(params, state, x)
    np.testing.assert_array_equal(y, np.broadcast_to(wanted, (5, 2, 3)))
    assert (list(params), state, out_shape) == (["value"], {}, (2, 3))


def test_the_gradient_of_a_parameter_is_the_sum_over_the_batch(key):
    params, state, _ = PARAMETER.init(key, (4,))
    slope = jax.jit(
        jax.grad(lambda params: jnp.arange(5.0) @ PARAMETER.apply(params, state, X)[0][:, 0, 0])
    )(params)
    np.testing.assert_array_equal(slope["value"], [[10, 0, 0], [0, 0, 0]])


def test_a_parameter_may_be_a_single_number(key):
    layer = nn.parameter(init=lambda key, shape: jnp.ones(shape))
    params, state, out_shape = layer.init(key, (4,))
    np.testing.assert_array_equal(layer.apply(params, state, X)[0], np.ones(5))
    assert out_shape == ()


def test_wrong_options_inputs_and_params_of_a_parameter_raise(key):
    for size in (0, 2.0, -1):
        with pytest.raises(ConfigError, match="parameter shape"):
            nn.parameter(3, size, init=nn.normal())
    for x in (jnp.float32(1), ()):
        with pytest.raises(ShapeError, match=r"parameter x: expected arrays \(batch, ...\)"):
            PARAMETER.apply({"value": jnp.ones((2, 3))}, {}, x)
    with pytest.raises(TreeMismatchError, match="parameter value"):
        PARAMETER.apply({"value": jnp.ones(3)}, {}, X)
