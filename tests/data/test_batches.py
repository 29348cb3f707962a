"""The order of the examples."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fnn import data
from fnn.data.shuffling import shuffled


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3))
def test_an_epoch_shows_each_example_at_most_once_in_whole_batches(examples, batch_size, epoch):
    rows = np.asarray(data.batches(jax.random.key(0), epoch, examples=examples, batch_size=batch_size))
    assert rows.shape == (examples // batch_size, batch_size)
    assert len(set(rows.ravel())) == rows.size
    assert set(rows.ravel()) <= set(range(examples))


def test_epochs_differ_and_are_found_again_by_number():
    key = jax.random.key(0)
    orders = [np.asarray(data.batches(key, epoch, examples=50, batch_size=5)) for epoch in (0, 1, 0)]
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])


def test_the_order_is_that_of_the_epochs_own_key():
    key = jax.random.key(3)
    wanted = shuffled(jax.random.fold_in(key, 4), 12).reshape(3, 4)
    np.testing.assert_array_equal(data.batches(key, 4, examples=12, batch_size=4), wanted)
