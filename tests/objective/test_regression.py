"""Tests of the regression losses against NumPy, SciPy and torch, with closed-form gradients."""

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective import (
    absolute_error,
    gaussian_nll,
    huber,
    log_cosh,
    poisson_nll,
    quantile,
    squared_error,
)

float64 = pytest.mark.usefixtures("x64")
SHAPES = [(4,), (4, 1), (4, 3), (4, 3, 2)]


@float64
def test_squared_error_equals_torch():
    with np.load(Path(__file__).parents[1] / "golden" / "losses.npz") as file:
        x, targets, weight, y, dx = (
            file[f"squared_error/{name}"] for name in ("x", "labels", "weight", "y", "dx")
        )
    values, pull = jax.vjp(lambda x: squared_error(x, jnp.array(targets)), jnp.array(x))
    np.testing.assert_allclose(values, y, rtol=1e-13)
    np.testing.assert_allclose(pull(jnp.array(weight))[0], dx, rtol=1e-13)


@float64
@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3), (4, 3, 2)])
def test_squared_error_is_the_mean_of_squares(shape):
    draw = np.random.default_rng(0)
    outputs, targets = draw.normal(size=shape), draw.normal(size=shape)
    wanted = ((outputs - targets) ** 2).reshape(4, -1).mean(1)
    got = squared_error(jnp.array(outputs), jnp.array(targets))
    chex.assert_shape(got, (4,))
    np.testing.assert_allclose(got, wanted, rtol=1e-14)
    gradient = jax.jit(jax.grad(lambda x: squared_error(x, jnp.array(targets)).sum()))(
        jnp.array(outputs)
    )
    np.testing.assert_allclose(gradient, 2 * (outputs - targets) * 4 / outputs.size, rtol=1e-14)


def test_squared_error_of_an_empty_batch_raises():
    with pytest.raises(ShapeError, match=r"outputs: expected at least one example .*got \(0, 3\)"):
        squared_error(jnp.ones((0, 3)), jnp.ones((0, 3)))


SQUARED_ERROR_ERRORS = {
    "column": (jnp.ones((4, 1)), jnp.ones(4), ShapeError, r"targets: .*\(4, 1\), got \(4,\)"),
    "fewer": (jnp.ones((4, 2)), jnp.ones((1, 2)), ShapeError, r"targets: .*\(4, 2\), got \(1, 2\)"),
    "scalar target": (jnp.ones(4), jnp.ones(()), ShapeError, r"targets: .*\(4,\), got \(\)"),
    "scalars": (jnp.ones(()), jnp.ones(()), ShapeError, "outputs: expected"),
    "integer outputs": (
        jnp.ones(4, jnp.int32),
        jnp.ones(4),
        DTypeError,
        "outputs: expected floating",
    ),
    "integer targets": (
        jnp.ones(4),
        jnp.ones(4, jnp.uint8),
        DTypeError,
        "targets: expected floating.*got uint8",
    ),
}


@pytest.mark.parametrize("case", SQUARED_ERROR_ERRORS)
def test_outputs_and_targets_that_do_not_fit_raise(case):
    outputs, targets, error, message = SQUARED_ERROR_ERRORS[case]
    with pytest.raises(error, match=message):
        squared_error(outputs, targets)


# Each loss as a function of d = output - target, and its slope.
CURVES = {
    "absolute_error": (absolute_error, {}, np.abs, np.sign),
    "huber": (
        huber,
        {"delta": 0.7},
        lambda d: np.where(abs(d) <= 0.7, d * d / 2, 0.7 * (abs(d) - 0.35)),
        lambda d: np.clip(d, -0.7, 0.7),
    ),
    "log_cosh": (log_cosh, {}, lambda d: np.log(np.cosh(d)), np.tanh),
    "quantile": (
        quantile,
        {"level": 0.2},
        lambda d: np.where(d < 0, -0.2 * d, 0.8 * d),
        lambda d: np.where(d < 0, -0.2, np.where(d > 0, 0.8, 0)),
    ),
}


@float64
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CURVES)
def test_a_loss_is_the_mean_of_its_function_of_the_difference(name, shape):
    loss, options, curve, slope = CURVES[name]
    draw = np.random.default_rng(0)
    outputs, targets = 2 * draw.normal(size=shape), draw.normal(size=shape)
    outputs.flat[0] = targets.flat[0]  # d = 0, where most losses have their kink
    values, pull = jax.vjp(lambda x: loss(x, jnp.array(targets), **options), jnp.array(outputs))
    np.testing.assert_allclose(
        values, curve(outputs - targets).reshape(4, -1).mean(1), rtol=1e-14, atol=1e-15
    )
    wanted = slope(outputs - targets) * 4 / outputs.size
    np.testing.assert_allclose(pull(jnp.ones(4))[0], wanted, rtol=1e-13, atol=1e-15)


def test_log_cosh_is_linear_far_out():
    d = jnp.array([1e4, -1e4])
    values, pull = jax.vjp(lambda x: log_cosh(x, jnp.zeros(2)), d)
    np.testing.assert_allclose(values, 1e4 - np.log(2), rtol=1e-7)
    np.testing.assert_array_equal(pull(jnp.ones(2))[0], [1, -1])


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_quantile_minimizes_its_loss(level):
    targets = jnp.float32(np.random.default_rng(0).normal(size=101))
    losses = [
        quantile(jnp.full(101, guess), targets, level=level).sum() for guess in np.sort(targets)
    ]
    assert np.argmin(losses) == round(level * 101 - 0.5)


@float64
def test_gaussian_nll_equals_scipy():
    draw = np.random.default_rng(0)
    mean = draw.normal(size=(4, 3))
    variance = draw.uniform(0.1, 2, (4, 3))
    targets = draw.normal(size=(4, 3))
    wanted = -stats.norm.logpdf(targets, mean, np.sqrt(variance)).mean(1) - np.log(2 * np.pi) / 2
    got = gaussian_nll((jnp.array(mean), jnp.array(variance)), jnp.array(targets))
    np.testing.assert_allclose(got, wanted, rtol=1e-13)


@float64
def test_a_variance_below_the_minimum_is_replaced_by_it():
    mean, targets = jnp.zeros(2), jnp.ones(2)
    got = gaussian_nll((mean, jnp.array([0.0, 0.5])), targets, min_variance=0.1)
    np.testing.assert_allclose(got, [(np.log(0.1) + 10) / 2, (np.log(0.5) + 2) / 2], rtol=1e-15)


@float64
def test_poisson_nll_equals_scipy():
    draw = np.random.default_rng(0)
    log_rate, counts = draw.normal(size=(4, 3)), draw.poisson(3, (4, 3))
    factorials = np.vectorize(lambda n: np.log(float(np.prod(np.arange(1, n + 1)))))(counts)
    wanted = (-stats.poisson.logpmf(counts, np.exp(log_rate)) - factorials).mean(1)
    for targets in (counts, counts.astype(float), counts.astype(np.uint8)):
        np.testing.assert_allclose(
            poisson_nll(jnp.array(log_rate), jnp.array(targets)), wanted, rtol=1e-12
        )


@float64
def test_full_likelihoods_equal_scipy():
    draw = np.random.default_rng(0)
    mean, variance = draw.normal(size=(4, 3)), 0.1 + draw.random((4, 3))
    targets, counts = draw.normal(size=(4, 3)), draw.poisson(3, (4, 3))
    got = gaussian_nll((jnp.array(mean), jnp.array(variance)), jnp.array(targets), full=True)
    wanted = -stats.norm.logpdf(targets, mean, np.sqrt(variance)).mean(1)
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    got = poisson_nll(jnp.array(mean), jnp.array(counts), full=True)
    np.testing.assert_allclose(got, -stats.poisson.logpmf(counts, np.exp(mean)).mean(1), rtol=1e-12)
    assert np.isnan(poisson_nll(jnp.zeros(1), jnp.array([-1]), full=True))


def test_a_count_of_0_where_0_is_expected_has_no_loss():
    z = jnp.array([-jnp.inf, -jnp.inf])
    np.testing.assert_array_equal(poisson_nll(z, jnp.array([0, 1])), [0, np.inf])
    gradient = jax.jit(jax.grad(lambda z: poisson_nll(z, jnp.array([0, 1])).sum()))(z)
    np.testing.assert_array_equal(gradient, [0, -1])


def test_the_error_of_integer_targets_names_a_cast_that_works():
    targets = np.arange(3)
    with pytest.raises(DTypeError, match=r"got int64; cast them, as in targets.astype\(numpy.f"):
        squared_error(jnp.ones(3), targets)
    assert np.isfinite(squared_error(jnp.ones(3), targets.astype(np.float32))).all()


def test_a_negative_variance_or_count_gives_nan():
    outputs = jnp.ones(3), jnp.array([1.0, -1.0, 0.0])
    targets = jnp.zeros(3)
    gaussian_value = jax.jit(gaussian_nll)(outputs, targets)
    gaussian_total = jax.grad(lambda outputs: gaussian_nll(outputs, targets).sum())
    gaussian_gradients = jax.jit(gaussian_total)(outputs)
    z, counts = jnp.ones(3), jnp.array([0, -1, 2])
    poisson_value = jax.jit(poisson_nll)(z, counts)
    poisson_gradient = jax.jit(jax.grad(lambda z: poisson_nll(z, counts).sum()))(z)
    for array in (gaussian_value, *gaussian_gradients, poisson_value, poisson_gradient):
        assert np.isnan(array).tolist() == [False, True, False]


def test_half_precision_outputs_are_compared_in_float32():
    outputs, targets = jnp.array([[1.0, 256.0]], jnp.bfloat16), jnp.array([[1.003, 255.0]])
    np.testing.assert_allclose(squared_error(outputs, targets), [(0.003**2 + 1) / 2], rtol=1e-4)
    chex.assert_type(squared_error(outputs, targets), jnp.float32)


@pytest.mark.parametrize("outputs", [jnp.ones(3), (jnp.ones(3),), (jnp.ones(3),) * 3])
def test_gaussian_nll_without_a_variance_raises(outputs):
    with pytest.raises(ShapeError, match=r"outputs: expected a pair \(mean, variance\)"):
        gaussian_nll(outputs, jnp.ones(3))


def test_a_variance_of_another_shape_raises():
    with pytest.raises(
        ShapeError, match=r"targets: expected the outputs' shape \(1,\), got \(3,\)"
    ):
        gaussian_nll((jnp.ones(3), jnp.ones(1)), jnp.ones(3))


@pytest.mark.parametrize(
    ("loss", "option", "value"),
    [(huber, "delta", 0.0), (quantile, "level", 1.1), (gaussian_nll, "min_variance", 0.0)],
)
def test_an_option_out_of_range_raises(loss, option, value):
    with pytest.raises(ConfigError, match=f"{loss.__name__} {option}: expected a number in"):
        loss(jnp.ones(3), jnp.ones(3), **{option: value})
