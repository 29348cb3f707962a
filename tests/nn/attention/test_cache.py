"""The cache of keys and values: where it is written, and which positions a query uses."""

import jax.numpy as jnp
import numpy as np

from fnn.nn.attention.cache import earlier, key_value_cache
from fnn.types import Span


def span(*starts, is_first=False):
    start = jnp.array(starts, jnp.int32)
    return Span(start, jnp.ones_like(start), 4, is_first)


def numbers(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_each_sequence_is_written_at_its_position():
    key, value = numbers(2, 3, 1, 2), 2 * numbers(2, 3, 1, 2)
    (keys, values), state = key_value_cache(span(0, 0, is_first=True)).apply({}, {}, (key, value))
    np.testing.assert_array_equal(keys, np.pad(key, ((0, 0), (0, 1), (0, 0), (0, 0))))
    np.testing.assert_array_equal(state["value"], values)
    new = jnp.full((2, 1, 1, 2), 9.0)
    (keys, values), _ = key_value_cache(span(3, 1)).apply({}, state, (new, -new))
    wanted = np.array(state["key"])
    wanted[0, 3] = wanted[1, 1] = 9
    np.testing.assert_array_equal(keys, wanted)
    np.testing.assert_array_equal(values[[0, 1], [3, 1]], -new[:, 0])


def test_a_query_uses_its_own_and_the_earlier_positions():
    wanted = [
        [[True, False, False, False], [True, True, False, False]],
        [[True, True, True, False], [True, True, True, True]],
    ]
    np.testing.assert_array_equal(earlier(span(0, 2), queries=2, keys=4), wanted)
