"""An epoch equals its steps on the batches of its permutation."""

import chex
import jax
import numpy as np
import pytest

from fnn import data, nn, optim, train
from fnn.train.inputs import ORDER

X = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
Y = np.arange(23) % 4
recipe = train.recipe(nn.chain(nn.batch_norm(), nn.dense(4)), optim.momentum(0.1))


@pytest.mark.slow
def test_epoch_equals_its_steps(key):
    train_state = train.start(key, recipe, (3,))
    for number in range(2):
        rows = data.batches(jax.random.fold_in(key, ORDER), number, examples=23, batch_size=5)
        by_hand, losses = train_state, []
        for row in np.asarray(rows):
            by_hand, measured = train.step(recipe, by_hand, (X[row], Y[row]))
            losses.append(measured["loss"])
        train_state, records = train.epoch(recipe, train_state, (X, Y), batch_size=5)
        chex.assert_trees_all_close(train_state[:4], by_hand[:4], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(records["loss"], np.stack(losses), rtol=1e-6)
