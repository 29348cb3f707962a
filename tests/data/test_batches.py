"""Batches of an epoch, and the random permutation that they are cut from."""

from functools import partial
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
from fnn.errors import ConfigError, DTypeError, ShapeError


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3))
def test_an_epoch_has_each_example_at_most_once_in_full_batches(examples, batch_size, epoch):
    rows = data.batches(jax.random.key(0), epoch, examples=examples, batch_size=batch_size)
    rows = np.asarray(rows)
    assert rows.shape == (examples // batch_size, batch_size)
    assert len(set(rows.ravel())) == rows.size
    assert set(rows.ravel()) <= set(range(examples))


WEIGHTS = [0.0, 3.0, 0.0, 0.5, 1e-30, 6.5, 0.0]


@pytest.mark.parametrize(
    "weights",
    [
        WEIGHTS,
        np.array(WEIGHTS, ">f8"),
        np.array(WEIGHTS, np.float32) * np.float32(1e37),
        np.repeat(WEIGHTS, 2)[::2],
    ],
)
def test_examples_are_drawn_by_weight(weights):
    draw = jax.jit(
        lambda epoch: data.weighted_batches(jax.random.key(1), epoch, weights=weights, batch_size=7)
    )
    found = np.asarray(jax.vmap(draw)(jnp.arange(2000)))
    assert found.shape == (2000, 1, 7) and found.dtype == np.int32
    counts = np.bincount(found.ravel(), minlength=7)
    wanted = np.array([0.0, 0.3, 0.0, 0.05, 0.0, 0.65, 0.0])
    assert (counts[wanted == 0] == 0).all()
    assert chisquare(counts[wanted > 0], wanted[wanted > 0] * 14000).pvalue > 1e-3
    np.testing.assert_array_equal(found[3], draw(3))


def test_weights_of_classes_draw_each_class_equally_often():
    labels = np.repeat([0, 1, 2], [7000, 2500, 500])
    weights = data.class_weights(labels)[labels]
    rows = data.weighted_batches(jax.random.key(0), 0, weights=weights, batch_size=64)
    assert rows.shape == (156, 64)
    counts = np.bincount(labels[np.asarray(rows).ravel()])
    assert chisquare(counts).pvalue > 1e-3


def test_weights_may_be_traced_and_all_are_checked():
    draw = partial(data.weighted_batches, jax.random.key(2), 0, batch_size=2)
    weights = np.array([0.0, 1.0, 2.0, 1.0], np.float32)
    traced = jax.jit(lambda weights: draw(weights=weights))(weights)
    np.testing.assert_array_equal(traced, draw(weights=weights))
    wrong = [[1, -1], [0, 0], [1, np.nan], [np.inf, 1], [], ["a"], [1j]]
    wrong.append(np.ma.masked_equal([1.0, 2.0], 2))
    for weights in wrong:
        with pytest.raises((ConfigError, DTypeError), match="weighted_batches weights: expected"):
            draw(weights=weights)
    with pytest.raises(ShapeError, match=r"weights: expected .*, got \(2, 1\)"):
        draw(weights=[[1], [2]])
    with pytest.raises(DTypeError, match="weighted_batches key"):
        data.weighted_batches(0, 0, weights=[1.0], batch_size=1)


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
