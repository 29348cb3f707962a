"""Orthogonal beginnings are held to QᵀQ = I, and to the uniform distribution over rotations by SciPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn import nn
from fnn.errors import ConfigError, ShapeError


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
        assert stats.kstest((1 + entries) / 2, stats.beta(half, half).cdf, method="asymp").pvalue > 1e-3


def test_it_is_in_the_default_dtype():
    assert nn.orthogonal()(jax.random.key(0), (4, 5)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert nn.orthogonal()(jax.random.key(0), (4, 5)).dtype == jnp.float64


def test_one_key_draws_one_kernel():
    first, again, other = (nn.orthogonal()(jax.random.key(seed), (4, 5)) for seed in (3, 3, 4))
    chex.assert_trees_all_equal(first, again)
    assert not np.isclose(first, other).any()


@pytest.mark.parametrize("gain", [-1.0, float("nan"), "large", None])
def test_a_gain_out_of_range_is_told(gain):
    with pytest.raises(ConfigError, match="orthogonal gain: expected"):
        nn.orthogonal(gain)


@pytest.mark.parametrize("shape", [(), (3,), (0, 2)])
def test_what_is_no_kernel_is_told(shape, key):
    with pytest.raises(ShapeError, match="initializer: expected a kernel shape"):
        nn.orthogonal()(key, shape)
