"""Draws are compared with the distributions of SciPy, for fixed keys."""

from math import prod

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn import nn
from fnn.errors import ConfigError, ShapeError
from fnn.nn.initializers.random import TRUNCATED_STD

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
def test_draws_follow_the_distribution(make, shape, key):
    """Moments are within four standard errors.

    That of a mean is √(variance / n), that of a variance is variance √((kurtosis - 1) / n).
    """
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


def test_normal_draws_have_the_given_std(key):
    draws = np.float64(nn.normal(0.3)(key, (40, 250))).ravel()
    assert stats.kstest(draws, stats.norm(0, 0.3).cdf, method="asymp").pvalue > 1e-3


def test_normal_with_std_0_is_zero(key):
    chex.assert_trees_all_equal(nn.normal(0.0)(key, (3, 2)), jnp.zeros((3, 2)))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_normal_takes_any_shape(shape, key):
    assert nn.normal()(key, shape).shape == shape


def test_std_may_be_traced(key):
    draw = jax.jit(lambda std: nn.normal(std)(jax.random.key(0), (4, 5)))
    standard = nn.normal(1.0)(key, (4, 5))
    chex.assert_trees_all_close(draw(0.3), 0.3 * standard, rtol=1e-6)
    chex.assert_trees_all_close(jax.jit(jax.jacfwd(draw))(0.3), standard, rtol=1e-6)


@pytest.mark.parametrize("make", [nn.normal, nn.truncated_normal, *VARIANCES])
def test_draws_are_in_the_default_dtype(make):
    assert make()(jax.random.key(0), (4, 5)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert make()(jax.random.key(0), (4, 5)).dtype == jnp.float64


@pytest.mark.parametrize("make", [nn.normal, nn.truncated_normal, *VARIANCES])
def test_the_same_key_draws_the_same_kernel(make):
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
def test_variance_scaling_draws_the_given_distribution(mode, distribution, shape, key):
    law = UNIT_LAWS[distribution]
    draws = np.float64(
        nn.variance_scaling(3.0, mode=mode, distribution=distribution)(key, shape)
    ).ravel()
    unit = draws * (MODES[mode](*SHAPES[shape]) / 3.0) ** 0.5
    assert stats.kstest(unit, law.cdf, method="asymp").pvalue > 1e-3
    kurtosis = 3 + float(law.stats("k"))
    assert abs(unit.var() - 1) < 4 * ((kurtosis - 1) / unit.size) ** 0.5


def test_truncated_normal_draws_have_the_given_std_and_bound(key):
    draws = np.float64(nn.truncated_normal(0.3)(key, (40, 250))).ravel()
    law = stats.truncnorm(-2, 2, scale=0.3 / stats.truncnorm(-2, 2).std())
    assert stats.kstest(draws, law.cdf, method="asymp").pvalue > 1e-3
    assert abs(draws.var() / 0.09 - 1) < 4 * ((2 + float(law.stats("k"))) / draws.size) ** 0.5
    assert 0.99 * law.support()[1] < np.abs(draws).max() < law.support()[1] * (1 + 1e-6)


def test_the_std_of_the_truncated_standard_normal_equals_scipy():
    np.testing.assert_allclose(TRUNCATED_STD, stats.truncnorm(-2, 2).std(), rtol=1e-12)


@pytest.mark.parametrize("make", [nn.normal, nn.truncated_normal])
@pytest.mark.parametrize("std", [-0.1, float("nan"), "wide", None])
def test_an_invalid_std_raises(make, std):
    with pytest.raises(ConfigError, match="normal std: expected"):
        make(std)


@pytest.mark.parametrize(
    "options", [{"scale": 0}, {"scale": -1.0}, {"mode": "fan"}, {"distribution": "cauchy"}]
)
def test_an_invalid_option_of_variance_scaling_raises(options):
    with pytest.raises(ConfigError, match=f"variance_scaling {next(iter(options))}: expected"):
        nn.variance_scaling(**options)


@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (3, 3, 0, 2)])
@pytest.mark.parametrize("make", VARIANCES)
def test_a_shape_without_inputs_and_outputs_raises(make, shape, key):
    with pytest.raises(
        ShapeError, match=r"initializer: expected a kernel shape \(\.\.\., inputs, outputs\)"
    ):
        make()(key, shape)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (3, 3, 2, 5), (2, 2, 1, 8), (1, 1)])
def test_orthogonal_columns_or_rows_are_orthonormal(shape, key):
    matrix = np.asarray(nn.orthogonal(1.5)(key, shape)).reshape(-1, shape[-1])
    matrix = matrix if len(matrix) >= shape[-1] else matrix.T
    np.testing.assert_allclose(matrix.T @ matrix, 1.5**2 * np.eye(matrix.shape[1]), atol=1e-14)


@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (2, 5)])
def test_orthogonal_is_drawn_uniformly(shape):
    """An entry w of such a matrix is a coordinate on the sphere: (1 + w) / 2 ~ Beta."""
    keys = jax.random.split(jax.random.key(0), 2000)
    draws = np.float64(jax.jit(jax.vmap(lambda key: nn.orthogonal()(key, shape)))(keys))
    half = (max(shape) - 1) / 2
    for index in ((0, 0), (1, 1), (-1, -1)):
        entries = draws[:, index[0], index[1]]
        assert (
            stats.kstest((1 + entries) / 2, stats.beta(half, half).cdf, method="asymp").pvalue
            > 1e-3
        )


def test_orthogonal_is_in_the_default_dtype():
    assert nn.orthogonal()(jax.random.key(0), (4, 5)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert nn.orthogonal()(jax.random.key(0), (4, 5)).dtype == jnp.float64


def test_the_same_key_draws_the_same_orthogonal_kernel():
    first, again, other = (nn.orthogonal()(jax.random.key(seed), (4, 5)) for seed in (3, 3, 4))
    chex.assert_trees_all_equal(first, again)
    assert not np.isclose(first, other).any()


@pytest.mark.parametrize("gain", [-1.0, float("nan"), "large", None])
def test_an_invalid_gain_raises(gain):
    with pytest.raises(ConfigError, match="orthogonal gain: expected"):
        nn.orthogonal(gain)


@pytest.mark.parametrize("shape", [(), (3,), (0, 2)])
def test_orthogonal_of_another_shape_raises(shape, key):
    with pytest.raises(ShapeError, match="initializer: expected a kernel shape"):
        nn.orthogonal()(key, shape)


@pytest.mark.parametrize("groups", [1, 4, 32])
@pytest.mark.parametrize("make", [nn.xavier_normal, nn.xavier_uniform, nn.lecun_normal])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_grouped_convolution_keeps_the_variance_as_a_full_one_does(groups, make, transposed, key):
    """At equal numbers of inputs and outputs all of these have the variance 1 / fan_in."""
    maker = nn.conv_transpose if transposed else nn.conv
    layer = maker(32, 3, groups=groups, kernel_init=make())
    params, _, _ = layer.init(key, (12, 12, 32))
    x = jax.random.normal(jax.random.key(1), (20, 12, 12, 32))
    y, _ = layer.apply(params, {}, x)
    # Away from the border, where the padding is 0.
    assert abs(y[:, 1:-1, 1:-1].var() - 1) < 0.2


def test_a_depthwise_convolution_keeps_the_variance(key):
    x = jax.random.normal(jax.random.key(1), (20, 12, 12, 128))
    for make, variance in [(nn.xavier_normal, 1), (nn.he_normal, 2), (nn.lecun_uniform, 1)]:
        layer = nn.depthwise_conv(kernel_init=make())
        params, _, _ = layer.init(jax.random.clone(key), (12, 12, 128))
        y, _ = layer.apply(params, {}, x)
        assert abs(y[:, 1:-1, 1:-1].var() / variance - 1) < 0.2


def test_fan_out_of_a_grouped_kernel_is_that_of_one_group(key):
    kernel_init = nn.variance_scaling(2.0, mode="fan_out")
    params, _, _ = nn.conv(64, 3, groups=4, kernel_init=kernel_init).init(key, (8, 8, 16))
    np.testing.assert_allclose(params["kernel"].var(), 2 / (9 * 64 / 4), rtol=0.1)


def test_a_grouped_orthogonal_kernel_is_orthogonal_in_each_group(key):
    layer = nn.conv(6, 3, groups=2, kernel_init=nn.orthogonal())
    params, _, _ = layer.init(key, (8, 8, 4))
    first, second = jnp.split(params["kernel"].reshape(18, 6), 2, axis=1)
    for group in (first, second):
        np.testing.assert_allclose(group.T @ group, np.eye(3), atol=1e-6)
    assert abs(first - second).max() > 0.1


def test_an_initializer_of_the_user_gets_the_shape_of_all_groups(key):
    shapes = []

    def initializer(key, shape):
        shapes.append(shape)
        return jnp.zeros(shape)

    nn.conv(6, 3, groups=2, kernel_init=initializer).init(key, (8, 8, 4))
    assert shapes == [(3, 3, 2, 6)]
