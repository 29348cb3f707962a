"""Adaptive pools are held to one region after another, in NumPy."""

from math import ceil, floor

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, ShapeError

float64 = pytest.mark.usefixtures("x64")
MAKERS = {"max": (nn.adaptive_max_pool, np.max), "avg": (nn.adaptive_avg_pool, np.mean)}
every_pool = pytest.mark.parametrize("kind", MAKERS)


def one_after_another(x, size, oracle):
    y = np.zeros((x.shape[0], *size, x.shape[-1]))
    for places in np.ndindex(*size):
        axes = zip(places, x.shape[1:], size, strict=False)
        region = (slice(floor(i * n / m), ceil((i + 1) * n / m)) for i, n, m in axes)
        y[(slice(None), *places)] = oracle(x[:, *region], (1, 2))
    return y


# size, image: regions that divide, that overlap, of single pixels, and more than there are pixels
CASES = [((2, 3), (4, 6)), (3, (7, 8)), ((1, 5), (3, 7)), ((4, 4), (4, 5)), ((5, 3), (2, 2)), (7, (10, 3))]


@float64
@every_pool
@pytest.mark.parametrize(("size", "image"), CASES)
def test_each_region_is_pooled(size, image, kind, key):
    maker, oracle = MAKERS[kind]
    layer = maker(size)
    x = np.random.default_rng(0).normal(size=(2, *image, 3))
    params, state, out_shape = layer.init(key, (*image, 3))
    y, state = layer.apply(params, state, jnp.array(x))
    wanted = one_after_another(x, np.broadcast_to(size, 2).tolist(), oracle)
    np.testing.assert_allclose(y, wanted, rtol=1e-13, atol=1e-15)
    assert (params, state, y.shape) == ({}, {}, (2, *out_shape))


@every_pool
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_regions(kind, value):
    maker, oracle = MAKERS[kind]
    x = np.zeros((1, 5, 5, 1), np.float32)
    x[0, 0, 4, 0] = value
    np.testing.assert_array_equal(maker(3).apply({}, {}, jnp.array(x))[0], one_after_another(x, (3, 3), oracle))


def test_the_first_of_equals_in_each_region_takes_the_gradient():
    slope = jax.grad(lambda x: nn.adaptive_max_pool((1, 2)).apply({}, {}, x)[0].sum())(jnp.zeros((1, 2, 3, 1)))
    chex.assert_trees_all_equal(slope[0, ..., 0], jnp.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))


@every_pool
def test_what_does_not_fit_is_told(kind, key):
    maker, _ = MAKERS[kind]
    with pytest.raises(ConfigError, match=f"adaptive_{kind}_pool size: expected >= 1"):
        maker(0)
    with pytest.raises(ConfigError, match=f"adaptive_{kind}_pool size: expected one int or two"):
        maker((1, 2, 3))
    with pytest.raises(ShapeError, match=f"adaptive_{kind}_pool: expected at least one pixel"):
        maker(2).init(key, (0, 4, 1))
    with pytest.raises(ShapeError, match=rf"adaptive_{kind}_pool x: expected rank 4 \(N, H, W, C\)"):
        maker(2).apply({}, {}, jnp.ones((4, 4, 1)))
