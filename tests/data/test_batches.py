"""Batches of an epoch, and the random permutation that they are cut from."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from fnn import data
from fnn.data.batches import permutation


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3))
def test_an_epoch_has_each_example_at_most_once_in_full_batches(examples, batch_size, epoch):
    rows = data.batches(jax.random.key(0), epoch, examples=examples, batch_size=batch_size)
    rows = np.asarray(rows)
    assert rows.shape == (examples // batch_size, batch_size)
    assert len(set(rows.ravel())) == rows.size
    assert set(rows.ravel()) <= set(range(examples))


def test_epochs_differ_and_are_reproducible_by_number():
    key = jax.random.key(0)
    orders = [data.batches(key, epoch, examples=50, batch_size=5) for epoch in (0, 1, 0)]
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])


def test_the_order_is_drawn_with_the_key_of_the_epoch():
    key = jax.random.key(3)
    wanted = permutation(jax.random.fold_in(key, 4), 12).reshape(3, 4)
    np.testing.assert_array_equal(data.batches(key, 4, examples=12, batch_size=4), wanted)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1433, 70_000])
def test_each_index_occurs_once(count):
    order = permutation(jax.random.key(0), count)
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(count))


def test_all_orders_are_equally_likely():
    keys = jax.random.split(jax.random.key(1), 24_000)
    orders = jax.jit(jax.vmap(lambda key: permutation(key, 4)))(keys)
    found = orders @ jnp.array([64, 16, 4, 1])
    counts = []
    for a, b, c, d in permutations(range(4)):
        code = 64 * a + 16 * b + 4 * c + d
        counts.append(int((found == code).sum()))
    assert sum(counts) == 24_000
    assert chisquare(counts).pvalue > 1e-3


def test_positions_are_uniform_and_neighbors_independent():
    order = np.asarray(permutation(jax.random.key(2), 50_000))
    positions = np.argsort(order)
    for part in (positions[:500], positions[-500:]):
        assert kstest(part / 50_000, "uniform").pvalue > 1e-3
    # Share of the indices i that precede i + 1, to four standard deviations.
    ascending = (np.diff(positions) > 0).mean()
    assert abs(ascending - 0.5) < 4 * 0.5 / np.sqrt(50_000)


@pytest.mark.parametrize(("count", "rounds"), [(4, 1), (1433, 2), (60_000, 3)])
def test_the_number_of_sorts_grows_with_the_probability_of_ties(count, rounds):
    text = jax.jit(lambda key: permutation(key, count)).lower(jax.random.key(0)).compile().as_text()
    assert text.count(" sort(") == rounds
