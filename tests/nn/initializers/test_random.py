"""Draws are held to their distributions by SciPy, with fixed keys."""

from math import prod

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn import nn
from fnn.errors import ConfigError, ShapeError
from fnn.nn.initializers.random import CUT_STD

VARIANCES = {
    nn.he_normal: lambda fan_in, fan_out: 2 / fan_in,
    nn.he_uniform: lambda fan_in, fan_out: 2 / fan_in,
    nn.xavier_normal: lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    nn.xavier_uniform: lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    nn.lecun_normal: lambda fan_in, fan_out: 1 / fan_in,
    nn.lecun_uniform: lambda fan_in, fan_out: 1 / fan_in,
    nn.variance_scaling: lambda fan_in, fan_out: 1 / fan_in,
}
SHAPES = {(40, 250): (40, 250), (3, 7, 10, 60): (210, 1260)}

every_scaled = pytest.mark.parametrize("make", VARIANCES)
every_shape = pytest.mark.parametrize("shape", SHAPES)


def is_uniform(make):
    return make.__name__.endswith("uniform")


@every_scaled
@every_shape
def test_draws_follow_their_distribution(make, shape, key):
    """Moments within four standard errors: √(variance / n) of a mean, variance √((kurtosis - 1) / n) of a variance."""
    variance, n = VARIANCES[make](*SHAPES[shape]), prod(shape)
    draws = np.float64(make()(key, shape)).ravel()
    bound, std = (3 * variance) ** 0.5, variance**0.5
    law, kurtosis = (
        (stats.uniform(-bound, 2 * bound), 1.8) if is_uniform(make) else (stats.norm(0, std), 3)
    )
    assert draws.size == n
    assert stats.kstest(draws, law.cdf, method="asymp").pvalue > 1e-3
    assert abs(draws.mean()) < 4 * (variance / n) ** 0.5
    assert abs(draws.var() / variance - 1) < 4 * ((kurtosis - 1) / n) ** 0.5


@pytest.mark.parametrize("make", [nn.he_uniform, nn.xavier_uniform])
def test_uniform_draws_fill_their_bounds(make, key):
    bound = (3 * VARIANCES[make](40, 250)) ** 0.5
    draws = np.abs(make()(key, (40, 250)))
    assert 0.999 * bound < draws.max() <= np.float32(bound) * (1 + 1e-6)


def test_normal_draws_have_the_std_they_are_given(key):
    draws = np.float64(nn.normal(0.3)(key, (40, 250))).ravel()
    assert stats.kstest(draws, stats.norm(0, 0.3).cdf, method="asymp").pvalue > 1e-3


def test_normal_without_std_is_zero(key):
    chex.assert_trees_all_equal(nn.normal(0.0)(key, (3, 2)), jnp.zeros((3, 2)))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_normal_takes_any_shape(shape, key):
    assert nn.normal()(key, shape).shape == shape


def test_std_may_be_traced(key):
    draw = jax.jit(lambda std: nn.normal(std)(jax.random.key(0), (4, 5)))
    standard = nn.normal(1.0)(key, (4, 5))
    chex.assert_trees_all_close(draw(0.3), 0.3 * standard, rtol=1e-6)
    chex.assert_trees_all_close(jax.jacfwd(draw)(0.3), standard, rtol=1e-6)


@pytest.mark.parametrize("make", [nn.normal, nn.truncated_normal, *VARIANCES])
def test_draws_are_in_the_default_dtype(make):
    assert make()(jax.random.key(0), (4, 5)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert make()(jax.random.key(0), (4, 5)).dtype == jnp.float64


@pytest.mark.parametrize("make", [nn.normal, nn.truncated_normal, *VARIANCES])
def test_one_key_draws_one_kernel(make):
    first, again, other = (make()(jax.random.key(seed), (4, 5)) for seed in (3, 3, 4))
    chex.assert_trees_all_equal(first, again)
    assert not np.isclose(first, other).any()


MODES = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
}
UNIT_LAWS = {
    "normal": stats.norm(),
    "uniform": stats.uniform(-(3**0.5), 2 * 3**0.5),
    "truncated": stats.truncnorm(-2, 2, scale=1 / stats.truncnorm(-2, 2).std()),
}


@every_shape
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("distribution", UNIT_LAWS)
def test_variance_scaling_draws_the_law_it_is_told(mode, distribution, shape, key):
    law = UNIT_LAWS[distribution]
    draws = np.float64(
        nn.variance_scaling(3.0, mode=mode, distribution=distribution)(key, shape)
    ).ravel()
    unit = draws * (MODES[mode](*SHAPES[shape]) / 3.0) ** 0.5
    assert stats.kstest(unit, law.cdf, method="asymp").pvalue > 1e-3
    kurtosis = 3 + float(law.stats("k"))
    assert abs(unit.var() - 1) < 4 * ((kurtosis - 1) / unit.size) ** 0.5


def test_truncated_normal_draws_have_the_std_they_are_given_and_an_end(key):
    draws = np.float64(nn.truncated_normal(0.3)(key, (40, 250))).ravel()
    law = stats.truncnorm(-2, 2, scale=0.3 / stats.truncnorm(-2, 2).std())
    assert stats.kstest(draws, law.cdf, method="asymp").pvalue > 1e-3
    assert abs(draws.var() / 0.09 - 1) < 4 * ((2 + float(law.stats("k"))) / draws.size) ** 0.5
    assert 0.99 * law.support()[1] < np.abs(draws).max() < law.support()[1] * (1 + 1e-6)


def test_the_constant_of_a_cut_normal_is_its_std():
    np.testing.assert_allclose(CUT_STD, stats.truncnorm(-2, 2).std(), rtol=1e-12)


@pytest.mark.parametrize("make", [nn.normal, nn.truncated_normal])
@pytest.mark.parametrize("std", [-0.1, float("nan"), "wide", None])
def test_a_std_out_of_range_is_told(make, std):
    with pytest.raises(ConfigError, match="normal std: expected"):
        make(std)


@pytest.mark.parametrize(
    "wrong", [{"scale": 0}, {"scale": -1.0}, {"mode": "fan"}, {"distribution": "cauchy"}]
)
def test_an_option_of_variance_scaling_out_of_range_is_told(wrong):
    with pytest.raises(ConfigError, match=f"variance_scaling {next(iter(wrong))}: expected"):
        nn.variance_scaling(**wrong)


@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (3, 3, 0, 2)])
@pytest.mark.parametrize("make", VARIANCES)
def test_what_is_no_kernel_is_told(make, shape, key):
    with pytest.raises(
        ShapeError, match=r"initializer: expected a kernel shape \(\.\.\., inputs, outputs\)"
    ):
        make()(key, shape)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (3, 3, 2, 5), (2, 2, 1, 8), (1, 1)])
def test_columns_or_rows_are_orthonormal(shape, key):
    matrix = np.asarray(nn.orthogonal(1.5)(key, shape)).reshape(-1, shape[-1])
    matrix = matrix if len(matrix) >= shape[-1] else matrix.T
    np.testing.assert_allclose(matrix.T @ matrix, 1.5**2 * np.eye(matrix.shape[1]), atol=1e-14)


@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (2, 5)])
def test_it_is_drawn_uniformly(shape):
    """Any entry of a uniform orthogonal matrix is a coordinate of a point on the sphere: (1 + w) / 2 ~ Beta."""
    keys = jax.random.split(jax.random.key(0), 2000)
    draws = np.float64(jax.jit(jax.vmap(lambda key: nn.orthogonal()(key, shape)))(keys))
    half = (max(shape) - 1) / 2
    for place in ((0, 0), (1, 1), (-1, -1)):
        entries = draws[:, place[0], place[1]]
        assert (
            stats.kstest((1 + entries) / 2, stats.beta(half, half).cdf, method="asymp").pvalue
            > 1e-3
        )


def test_it_is_in_the_default_dtype():
    assert nn.orthogonal()(jax.random.key(0), (4, 5)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert nn.orthogonal()(jax.random.key(0), (4, 5)).dtype == jnp.float64


def test_one_key_draws_one_kernel_of_orthogonal():
    first, again, other = (nn.orthogonal()(jax.random.key(seed), (4, 5)) for seed in (3, 3, 4))
    chex.assert_trees_all_equal(first, again)
    assert not np.isclose(first, other).any()


@pytest.mark.parametrize("gain", [-1.0, float("nan"), "large", None])
def test_a_gain_out_of_range_is_told(gain):
    with pytest.raises(ConfigError, match="orthogonal gain: expected"):
        nn.orthogonal(gain)


@pytest.mark.parametrize("shape", [(), (3,), (0, 2)])
def test_what_is_no_kernel_is_told_of_orthogonal(shape, key):
    with pytest.raises(ShapeError, match="initializer: expected a kernel shape"):
        nn.orthogonal()(key, shape)
