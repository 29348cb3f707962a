"""Each batch of a stream is checked, and is like the first one."""

import jax
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.errors import DTypeError, NonFiniteError
from fnn.train.stream import StreamValidator

draw = np.random.default_rng(0)
X = draw.random((8, 4), np.float32)
Y = np.arange(8, dtype=np.int32) % 3
recipe = train.recipe(nn.dense(3), optim.sgd(0.1))


def test_batches_become_arrays_of_jax():
    validate = StreamValidator(recipe)
    for rows in (slice(0, 4), slice(4, 8), slice(0, 2)):
        inputs, targets = validate("batch", (X[rows], Y[rows]))
        assert isinstance(inputs, jax.Array) and isinstance(targets, jax.Array)
        np.testing.assert_array_equal(inputs, X[rows])


def test_a_later_batch_that_is_wrong_or_unlike_the_first_raises():
    validate = StreamValidator(recipe)
    validate("batch", (X, Y))
    with pytest.raises(DTypeError, match="batch 2 inputs: expected float32 as in the first batch"):
        validate("batch 2", (np.zeros((8, 4), np.uint8), Y))
    with pytest.raises(NonFiniteError, match="batch 3 inputs: expected finite numbers"):
        validate("batch 3", (X * np.nan, Y))
