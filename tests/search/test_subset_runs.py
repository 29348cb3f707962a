"""The order of the examples of runs on subsets."""

import numpy as np

from fnn.search.subset_runs import epoch_orders
from fnn.train.epoch import order_examples


def test_the_orders_of_all_epochs_are_those_of_a_run(key):
    orders = epoch_orders(key, 3, 11, 4)
    assert orders.shape == (6, 4)
    expected = [order_examples(key, epoch, 11, 4) for epoch in range(3)]
    np.testing.assert_array_equal(orders, np.concatenate(expected))
