"""A batch of anybody's, as arrays of our own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.errors import ConfigError, DTypeError
from fnn.train.batching import own_batch

x, y = np.linspace(-1, 1, 512 * 4).reshape(512, 4).astype(np.float32), np.arange(512, dtype=np.int32) % 3
recipe = train.recipe(nn.dense(3), optim.sgd(0.1))


class Tensor:
    """What another library's arrays have in common: NumPy can read them."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize(
    "kind", [np.asarray, jnp.asarray, Tensor, lambda array: array.astype(array.dtype.newbyteorder())]
)
def test_a_step_takes_whatever_can_be_read_as_arrays(kind, key):
    start = train.start(key, recipe, (4,))
    wanted, _ = train.step(recipe, start, (x, y))
    after, _ = train.step(recipe, start, [kind(x), kind(y)])
    chex.assert_trees_all_equal(after.params, wanted.params)


def test_a_buffer_may_be_refilled_at_once():
    batch = {"a": np.ones((64, 64), np.float32), "b": np.ones((64, 64), np.float32)}, np.zeros(64, np.int32)
    inputs, targets = own_batch("batch", batch)
    for buffer in jax.tree.leaves(batch):
        buffer[...] = 7
    assert all((leaf == 1).all() for leaf in inputs.values()) and (targets == 0).all()


@pytest.mark.parametrize(
    ("batch", "error", "told"),
    [
        ({"image": x, "label": y}, ConfigError, "batch: expected a pair .* got a dict with image, label; make pairs"),
        ((x, y, y), ConfigError, "batch: expected a pair .inputs, targets., got a tuple"),
        ((x, y.astype(str)), DTypeError, "targets: expected an array of numbers, got dtype <U11"),
    ],
)
def test_what_is_no_batch_is_told(batch, error, told, key):
    with pytest.raises(error, match=told):
        train.step(recipe, train.start(key, recipe, (4,)), batch)
