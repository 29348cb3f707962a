"""The order of the examples."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from fnn import data
from fnn.data.batches import shuffled


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3))
def test_an_epoch_shows_each_example_at_most_once_in_whole_batches(examples, batch_size, epoch):
    rows = np.asarray(
        data.batches(jax.random.key(0), epoch, examples=examples, batch_size=batch_size)
    )
    assert rows.shape == (examples // batch_size, batch_size)
    assert len(set(rows.ravel())) == rows.size
    assert set(rows.ravel()) <= set(range(examples))


def test_epochs_differ_and_are_found_again_by_number():
    key = jax.random.key(0)
    orders = [
        np.asarray(data.batches(key, epoch, examples=50, batch_size=5)) for epoch in (0, 1, 0)
    ]
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])


def test_the_order_is_that_of_the_epochs_own_key():
    key = jax.random.key(3)
    wanted = shuffled(jax.random.fold_in(key, 4), 12).reshape(3, 4)
    np.testing.assert_array_equal(data.batches(key, 4, examples=12, batch_size=4), wanted)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1433, 70_000])
def test_each_number_is_there_once(count):
    order = shuffled(jax.random.key(0), count)
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(count))


def test_each_order_is_as_likely():
    keys = jax.random.split(jax.random.key(1), 24_000)
    orders = jax.jit(jax.vmap(lambda key: shuffled(key, 4)))(keys)
    found = orders @ jnp.array([64, 16, 4, 1])
    counts = [
        int((found == 64 * a + 16 * b + 4 * c + d).sum()) for a, b, c, d in permutations(range(4))
    ]
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
