"""Stochastic depth is held to the binomial distribution, and to skipping the body for an example whole."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn import nn
from fnn.errors import ConfigError, DTypeError


@partial(jax.jit, static_argnames="train")
def drop(drop_rate, x, key, train=True):
    return nn.drop_path(drop_rate).apply({}, {}, x, key=key, train=train)[0]


@pytest.mark.parametrize("shape", [(5000,), (5000, 3), (5000, 2, 2, 3)])
def test_examples_are_dropped_whole_and_at_their_rate(shape, key):
    x = np.float32(np.random.default_rng(0).uniform(1, 2, shape))
    y = np.asarray(drop(0.3, jnp.array(x), key))
    kept = y.reshape(5000, -1)[:, 0] != 0
    np.testing.assert_allclose(y, x / 0.7 * kept.reshape(-1, *[1] * (len(shape) - 1)), rtol=1e-6)
    assert stats.binomtest(int(kept.sum()), 5000, 0.7).pvalue > 1e-3


def test_a_dropped_example_skips_the_body_of_a_residual(key):
    layer = nn.residual(nn.chain(nn.dense(4), nn.drop_path(0.5)))
    params, state, _ = layer.init(key, (4,))
    x = jnp.float32(np.random.default_rng(0).normal(size=(64, 4)))
    y, _ = layer.apply(params, state, x, key=jax.random.clone(key), train=True)
    body, _ = nn.dense(4).apply(params["body"]["dense_0"], {}, x)
    skipped = np.asarray((y == x).all(1))
    assert 16 < skipped.sum() < 48
    np.testing.assert_allclose(y, x + np.where(skipped[:, None], 0, 2 * body), rtol=1e-5, atol=1e-6)


def test_the_rate_may_grow_with_depth():
    """As many bodies as a traced rate each, in one compilation: the fraction skipped is the rate of the depth."""
    depths = jnp.arange(1, 5) / 4

    def kept(depth, key):
        return (drop(0.4 * depth, jnp.ones((5000, 1)), key) != 0).sum()

    counts = jax.jit(jax.vmap(kept))(depths, jax.random.split(jax.random.key(1), 4))
    for depth, count in zip(depths, counts, strict=True):
        assert stats.binomtest(int(count), 5000, 1 - 0.4 * float(depth)).pvalue > 1e-3


def test_outside_of_training_and_at_rate_zero_it_is_the_identity(key):
    x = jnp.arange(12.0).reshape(2, 3, 2)
    chex.assert_trees_all_equal(drop(0.5, x, None, train=False), x)
    chex.assert_trees_all_equal(drop(0.0, x, key), x)


@pytest.mark.parametrize("drop_rate", [1.0, -0.5, float("nan"), "half"])
def test_a_rate_out_of_range_is_told_at_once(drop_rate):
    with pytest.raises(ConfigError, match=r"drop_path drop_rate: expected"):
        nn.drop_path(drop_rate)


def test_what_does_not_fit_is_told(key):
    with pytest.raises(DTypeError, match="drop_path key: expected a key"):
        drop(0.5, jnp.ones((2, 3)), None)
    with pytest.raises(DTypeError, match=r"drop_path x: expected floating.*got int32"):
        drop(0.5, jnp.ones((2, 3), jnp.int32), key)
