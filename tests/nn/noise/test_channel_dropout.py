"""Channel dropout is held to the binomial distribution, and to dropping a channel whole."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError


@partial(jax.jit, static_argnames="train")
def drop(drop_rate, x, key, train=True):
    return nn.channel_dropout(drop_rate).apply({}, {}, x, key=key, train=train)[0]


@pytest.mark.parametrize("shape", [(100, 60), (100, 3, 60), (100, 3, 2, 60), (100, 2, 2, 2, 60)])
def test_channels_are_dropped_whole_and_at_their_rate(shape, key):
    x = np.float32(np.random.default_rng(0).uniform(1, 2, shape))
    y = np.asarray(drop(0.3, jnp.array(x), key))
    places = tuple(range(1, len(shape) - 1))
    kept = (y != 0).any(places)  # (example, channel)
    np.testing.assert_allclose(y, x / 0.7 * np.expand_dims(kept, places), rtol=1e-6)
    assert stats.binomtest(int(kept.sum()), kept.size, 0.7).pvalue > 1e-3


def test_examples_and_channels_are_dropped_independently(key):
    kept = np.asarray(drop(0.3, jnp.ones((200, 2, 200)), key))[:, 0] != 0
    for axis in (0, 1):
        spread = 199 * kept.sum(axis).var(ddof=1) / (200 * 0.3 * 0.7)
        assert 1e-3 < stats.chi2(199).sf(spread) < 1 - 1e-3


def test_outside_of_training_and_at_rate_zero_it_is_the_identity(key):
    x = jnp.arange(12.0).reshape(2, 3, 2)
    chex.assert_trees_all_equal(drop(0.5, x, None, train=False), x)
    chex.assert_trees_all_equal(drop(0.0, x, key), x)


@pytest.mark.parametrize("drop_rate", [1.0, -0.5, float("nan"), "half"])
def test_a_rate_out_of_range_is_told_at_once(drop_rate):
    with pytest.raises(ConfigError, match=r"channel_dropout drop_rate: expected"):
        nn.channel_dropout(drop_rate)


def test_what_does_not_fit_is_told(key):
    with pytest.raises(ShapeError, match=r"channel_dropout: expected a shape \(\.\.\., channels\), got \(\)"):
        nn.channel_dropout(0.5).init(key, ())
    with pytest.raises(ShapeError, match=r"channel_dropout: expected a shape \(\.\.\., channels\), got \(\)"):
        drop(0.5, jnp.ones(3), key)
    with pytest.raises(DTypeError, match="channel_dropout key: expected a key"):
        drop(0.5, jnp.ones((2, 3)), None)
    with pytest.raises(DTypeError, match=r"channel_dropout x: expected floating.*got int32"):
        drop(0.5, jnp.ones((2, 3), jnp.int32), key)
