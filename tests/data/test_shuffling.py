"""Orders of which each is as likely."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from fnn.data.shuffling import shuffled


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1433, 70_000])
def test_each_number_is_there_once(count):
    order = shuffled(jax.random.key(0), count)
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(count))


def test_each_order_is_as_likely():
    keys = jax.random.split(jax.random.key(1), 24_000)
    orders = jax.jit(jax.vmap(lambda key: shuffled(key, 4)))(keys)
    found = orders @ jnp.array([64, 16, 4, 1])
    counts = [int((found == 64 * a + 16 * b + 4 * c + d).sum()) for a, b, c, d in permutations(range(4))]
    assert sum(counts) == 24_000
    assert chisquare(counts).pvalue > 1e-3


def test_of_many_numbers_each_is_anywhere_and_neighbors_part():
    order = np.asarray(shuffled(jax.random.key(2), 50_000))
    places = np.argsort(order)
    for some in (places[:500], places[-500:]):
        assert kstest(some / 50_000, "uniform").pvalue > 1e-3
    before = (np.diff(places) > 0).mean()  # a number before the next one
    assert abs(before - 0.5) < 4 * 0.5 / np.sqrt(50_000)


@pytest.mark.parametrize(("count", "rounds"), [(4, 1), (1433, 2), (60_000, 3)])
def test_there_are_rounds_enough_to_part_those_that_draw_the_same(count, rounds):
    text = jax.jit(lambda key: shuffled(key, count)).lower(jax.random.key(0)).compile().as_text()
    assert text.count(" sort(") == rounds
