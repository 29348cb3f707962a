"""Means and variances equal NumPy's, and the normalized output its formula."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.nn.normalization.moments import (
    moments,
    moments_by_sums,
    moments_of_places,
    normalize,
    normalized,
)

float64 = pytest.mark.usefixtures("x64")
X = np.random.default_rng(0).normal(size=(4, 3, 5))


@float64
@pytest.mark.parametrize("axes", [(0,), (0, 1), (1, 2), (-1,)])
@pytest.mark.parametrize("function", [moments, moments_by_sums])
def test_moments_equal_numpy(function, axes):
    mean, var = function(jnp.array(X), axes)
    np.testing.assert_allclose(mean, X.mean(axes, keepdims=True), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(var, X.var(axes, keepdims=True), rtol=1e-13)


@float64
@pytest.mark.parametrize("names", [(), ("scale",), ("bias",), ("scale", "bias")])
@pytest.mark.parametrize("shape", [(5,), (3, 5)])
def test_params_broadcast_to_the_last_axes(names, shape):
    params = {name: np.random.default_rng(1).normal(size=shape) for name in names}
    mean, var = X.mean(0, keepdims=True), X.var(0, keepdims=True)
    y = normalize(
        jnp.array(X),
        mean,
        jnp.array(var),
        0.1,
        {name: jnp.array(array) for name, array in params.items()},
    )
    wanted = params.get("scale", 1) * (X - mean) / np.sqrt(var + 0.1) + params.get("bias", 0)
    np.testing.assert_allclose(y, wanted, rtol=1e-13, atol=1e-14)


def test_the_variance_far_from_zero_does_not_cancel():
    x = np.float32(3000 + X)
    _, var = moments(jnp.array(x), (0, 1, 2))
    np.testing.assert_allclose(var.ravel(), x.var(dtype=np.float64), rtol=1e-5)


CONSTANTS = pytest.mark.parametrize("value", [255.3, 12345.6, -1e6, 1.234e8])


@CONSTANTS
@pytest.mark.parametrize("shape", [(3, 28, 28, 2), (3, 77), (5, 7, 6)])
@pytest.mark.parametrize("function", [moments, moments_by_sums])
def test_the_mean_of_a_constant_is_exact(function, shape, value):
    x = np.full(shape, value, np.float32)
    axes = tuple(range(1 - len(shape), 0))
    mean, var = jax.jit(function, static_argnums=1)(x, axes)
    np.testing.assert_array_equal(mean.ravel(), x.ravel()[: shape[0]])
    assert not var.any()


@CONSTANTS
@pytest.mark.parametrize("shape", [(3, 28, 28, 6), (5, 7, 6)])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_the_mean_of_constant_places_is_exact(groups, shape, value):
    x = np.full(shape, value, np.float32)
    mean, var = jax.jit(moments_of_places, static_argnums=1)(x, groups)
    np.testing.assert_array_equal(mean, x[:, :1, :1] if x.ndim == 4 else x[:, :1])
    assert not var.any()


@float64
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_moments_of_places_and_groups_equal_numpy(groups):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 6))
    mean, var = jax.jit(moments_of_places, static_argnums=1)(x, groups)
    grouped = x.reshape(2, 12, groups, -1)
    for got, wanted in ((mean, grouped.mean((1, 3))), (var, grouped.var((1, 3)))):
        # One number for each channel: (batch, groups) -> (batch, channels)
        repeated = wanted.repeat(6 // groups, axis=1)
        np.testing.assert_allclose(got[:, 0, 0], repeated, rtol=1e-12, atol=1e-15)


def test_rows_that_are_almost_constant_keep_their_variance():
    """The three values that are compared are equal, and the others differ by two roundings."""
    x = np.full((4, 64), 1e4, np.float32)
    x[0, 5] += 1
    x[1, 1:9] += 2**-9
    x[2, 1:30:2] -= 2**-9
    x[3, 1:60:3] += 0.5
    mean, var = moments_by_sums(jnp.array(x), (-1,))
    np.testing.assert_allclose(mean, x.mean(1, float, keepdims=True), rtol=2e-7)
    np.testing.assert_allclose(var, x.var(1, float, keepdims=True), rtol=1e-3, atol=1e-6)


@CONSTANTS
@pytest.mark.parametrize("function", [moments, moments_by_sums])
def test_columns_that_are_almost_constant_have_exact_moments(function, value):
    """One channel has the smallest change that float32 has, another one is far from constant."""
    x = np.full((3000, 4), value, np.float32)
    x[700, 1] = np.nextafter(x[700, 1], np.float32(np.inf))
    x[1000:2000, 2] = np.nextafter(x[0, 2], np.float32(-np.inf))
    x[:, 3] = X.ravel()[np.arange(3000) % 60]
    mean, var = jax.jit(function, static_argnums=1)(x, (0,))
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean[0], wide.mean(0), rtol=1e-7, atol=1e-7)
    # The rounded mean is off by half a spacing at most.
    spacing = np.spacing(np.abs(x[0]))
    error = np.sqrt(np.abs(var[0] - wide.var(0)))
    assert (error <= 0.51 * spacing + 1e-3 * wide.std(0)).all()


@pytest.mark.parametrize(("low", "high"), [(1e4, 1e4 + 1), (1000, 1000.0625), (-1e6, -1e6 + 2)])
@pytest.mark.parametrize("count", [512, 768])
def test_rows_of_two_values_are_not_constant(low, high, count):
    """Half of the values are each, so that the variance is the square of the distance to them."""
    is_high = np.arange(count) % 2 == 1
    is_high[[0, count // 2 - 1, count // 2, count - 1]] = False
    is_high[[2, 6]] = True
    x = np.where(is_high, high, low).astype(np.float32)[None]
    assert is_high.sum() == count / 2
    y, _ = jax.jit(nn.layer_norm(affine=False).apply)({}, {}, x)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(y, (wide - wide.mean()) / np.sqrt(wide.var() + 1e-5), rtol=1e-3)


@pytest.mark.parametrize("mode", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
@pytest.mark.parametrize("function", [moments, moments_by_sums])
def test_moments_over_a_sharded_axis_equal_those_on_one_device(function, mode):
    mesh = jax.make_mesh((4,), ("devices",), axis_types=(mode,))
    x = np.float32(X)
    with jax.set_mesh(mesh):
        spec = jax.sharding.PartitionSpec("devices")
        sharded = jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))
        got = jax.jit(lambda x: function(x, (0, 1)))(sharded)
    chex.assert_trees_all_close(got, function(jnp.array(x), (0, 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        nn.layer_norm(),
        nn.layer_norm(axes=3),
        nn.group_norm(2),
        nn.instance_norm(affine=True),
        nn.batch_norm(),
        nn.weight_standardization(nn.conv(3, kernel_init=nn.constant(12345.6))),
    ],
    ids=lambda layer: layer.name,
)
@pytest.mark.parametrize("value", [255.3, 12345.6])
def test_a_norm_of_a_constant_is_zero_with_the_gradient_of_float64(layer, value, key):
    """Near a constant y = scale (x - mean) / √eps: the derivative is known."""
    x = np.full((3, 8, 9, 6), value, np.float32)
    params, state, _ = layer.init(key, x.shape[1:])
    weights = np.random.default_rng(0).normal(size=x.shape)
    if layer.name == "conv":
        y, _ = jax.jit(layer.apply)(params, state, x)
        np.testing.assert_array_equal(y, np.zeros(y.shape))
        return

    def total(x):
        y, _ = layer.apply(params, state, x, train=True)
        return (y * weights.astype(x.dtype)).sum(), y

    grads, y = jax.jit(jax.grad(total, has_aux=True))(x)
    np.testing.assert_array_equal(y, np.zeros(x.shape))
    with jax.enable_x64(True):
        step = 1e-6
        direction = np.random.default_rng(1).normal(size=x.shape)
        params, state = jax.tree.map(lambda leaf: leaf.astype(float), (params, state))
        program = jax.jit(total)
        ends = [program(x + sign * step * direction)[0] for sign in (1, -1)]
        slope = float(ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose((np.float64(grads) * direction).sum(), slope, rtol=1e-3)


def step_by_step(x, scale, bias, eps, axes):
    mean, var = moments(x, axes)
    return scale * (x - mean) / jnp.sqrt(var + eps) + bias, mean, var


@pytest.mark.slow
@float64
@pytest.mark.parametrize(
    ("axes", "params_shape"),
    [((0, 1), (1, 1, 5)), ((0, 1), (1, 1, 1)), ((2,), (1, 1, 5)), ((1,), (1, 3, 5))],
)
def test_the_custom_derivatives_equal_those_of_the_formula(axes, params_shape):
    """By all inputs, of all outputs, in forward and reverse mode, and of second order."""
    draw = np.random.default_rng(2)
    operands = (
        jnp.array(X),
        *jnp.array(draw.uniform(0.5, 1.5, (2, *params_shape))),
        jnp.full((1, 1, 1), 0.1),
    )
    directions = tuple(map(jnp.cos, operands))

    def derivatives(function):
        def objective(*operands):
            y, mean, var = function(*operands, axes)
            return jnp.sin(y).sum() + jnp.cos(mean).sum() + (var**2).sum()

        gradient = jax.grad(objective, (0, 1, 2, 3))

        @jax.jit
        def results(operands, directions):
            second = jax.jvp(gradient, operands, directions)
            return function(*operands, axes), gradient(*operands), second

        return results(operands, directions)

    chex.assert_trees_all_close(
        derivatives(normalized), derivatives(step_by_step), rtol=1e-11, atol=1e-12
    )


def test_all_gradients_follow_from_two_sums_over_x():
    operands = jnp.array(X), *jnp.ones((2, 1, 1, 5)), jnp.full((1, 1, 1), 0.1)

    def sums(function):
        _, pull_back = jax.vjp(lambda *operands: function(*operands, (0, 1))[0], *operands)
        steps = jax.make_jaxpr(pull_back)(jnp.array(X)).jaxpr.eqns
        return sum(
            step.primitive.name == "reduce_sum" and step.invars[0].aval.size == X.size
            for step in steps
        )

    assert sums(normalized) == 2 < sums(step_by_step)
