"""Dropout is held to the binomial distribution, with fixed keys."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError

RATES = (0.1, 0.5, 0.9)
every_rate = pytest.mark.parametrize("drop_rate", RATES)


def drop(drop_rate, x, key, train=True):
    return nn.dropout(drop_rate).apply({}, {}, x, key=key, train=train)[0]


@every_rate
def test_numbers_are_dropped_at_their_rate(drop_rate, key):
    y = drop(drop_rate, jnp.ones((100, 200)), key)
    dropped = int((y == 0).sum())
    assert stats.binomtest(dropped, y.size, drop_rate).pvalue > 1e-3


@every_rate
def test_the_rest_grows_to_keep_the_mean(drop_rate, key):
    x = np.float32(np.random.default_rng(0).normal(size=(50, 40)))
    y = np.asarray(drop(drop_rate, jnp.array(x), key))
    np.testing.assert_allclose(y[y != 0], x[y != 0] / (1 - drop_rate), rtol=1e-6)


@every_rate
def test_rows_columns_and_examples_are_dropped_independently(drop_rate, key):
    """The dropped of a row, and of a column, are binomial too: their spread shows any mask that is shared."""
    y = drop(drop_rate, jnp.ones((200, 200)), key)
    for axis in (0, 1):
        counts = np.asarray((y == 0).sum(axis))
        expected = 200 * drop_rate * (1 - drop_rate)
        assert stats.chi2(199).sf(199 * counts.var(ddof=1) / expected) > 1e-3
        assert stats.chi2(199).cdf(199 * counts.var(ddof=1) / expected) > 1e-3


def test_rate_zero_drops_nothing(key):
    x = jnp.arange(6.0)
    chex.assert_trees_all_equal(drop(0.0, x, key), x)


@every_rate
def test_outside_of_training_it_is_the_identity(drop_rate):
    x = jnp.arange(6.0)
    chex.assert_trees_all_equal(drop(drop_rate, x, None, train=False), x)
    chex.assert_trees_all_equal(nn.dropout(drop_rate).apply({}, {}, x)[0], x)


def test_one_key_drops_the_same(key):
    first, again, other = (drop(0.5, jnp.ones(100), k) for k in (key, jax.random.clone(key), jax.random.key(1)))
    chex.assert_trees_all_equal(first, again)
    assert (first != other).any()


def test_the_rate_costs_one_compilation_and_a_lane_is_a_layer():
    x = jnp.arange(1.0, 9.0)

    def apply(drop_rate):
        return drop(drop_rate, x, jax.random.key(2))

    rates = (0.0, *RATES)
    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(apply, n=1))
    looped = jnp.stack([traced(rate) for rate in rates])
    chex.assert_trees_all_close(looped, jnp.stack([apply(rate) for rate in rates]), rtol=1e-6)
    chex.assert_trees_all_close(jax.vmap(apply)(jnp.array(rates)), looped, rtol=1e-6)


def test_gradients_are_those_of_what_is_kept(key):
    x = jnp.arange(1.0, 9.0)
    y = drop(0.25, x, key)
    differentiate = jax.jit(jax.grad(lambda rate, x, key: drop(rate, x, key).sum(), (0, 1)))
    by_rate, by_x = differentiate(0.25, x, jax.random.clone(key))
    np.testing.assert_allclose(by_x, np.where(y == 0, 0, 1 / 0.75), rtol=1e-6)
    np.testing.assert_allclose(by_rate, y.sum() / 0.75, rtol=1e-6)


def test_what_is_dropped_has_no_gradient_even_where_it_is_not_finite(key):
    x = jnp.full(64, jnp.inf)
    y = drop(0.5, x, key)
    assert set(np.unique(y)) == {0, np.inf}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_shape_and_dtype_stay(dtype, key):
    layer = nn.dropout(0.5)
    assert layer.init(key, (2, 3)) == ({}, {}, (2, 3))
    y, state = layer.apply({}, {}, jnp.ones((4, 2, 3), dtype), key=jax.random.clone(key), train=True)
    assert (y.shape, y.dtype, state) == ((4, 2, 3), jnp.dtype(dtype), {})


@pytest.mark.parametrize("drop_rate", [1.5, 1.0, -0.5, float("nan"), "half", None, [0.5, 0.5]])
def test_a_rate_out_of_range_is_told_at_once(drop_rate):
    with pytest.raises(ConfigError, match=r"dropout drop_rate: expected"):
        nn.dropout(drop_rate)


KEYS = {
    "none": (None, DTypeError),
    "int": (0, DTypeError),
    "raw": (np.array([0, 1], np.uint32), DTypeError),
    "many": (jax.random.split(jax.random.key(0), 3), ShapeError),
}


@pytest.mark.parametrize("case", KEYS)
def test_training_without_one_key_is_told(case):
    key, error = KEYS[case]
    with pytest.raises(error, match="dropout key: expected"):
        drop(0.5, jnp.ones(3), key)


def test_training_without_a_key_is_a_type_error():
    with pytest.raises(TypeError):
        drop(0.5, jnp.ones(3), None)


@pytest.mark.parametrize("train", [True, False])
def test_what_is_no_float_is_told(train, key):
    with pytest.raises(DTypeError, match=r"dropout x: expected floating.*got int32"):
        drop(0.5, jnp.ones(3, jnp.int32), key, train)
