"""Optimizers match torch and optax; optimizers of optax train in runs of fnn."""

from functools import partial

import chex
import descents_first_order
import descents_second_order
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from descents import DESCENTS, GOALS, worst

from fnn import nn, optim, train

# torch takes its steps in Python, one problem at a time; benchmarks/descent_parity.py runs all.
CONFIGURATIONS = {"torch": 20, "optax": 200}
NAMES = [*descents_first_order.NAMES, *descents_second_order.NAMES]
PAIRS = {
    "momentum": (partial(optim.momentum, 0.01), partial(optax.sgd, 0.01, momentum=0.9)),
    "adam": (partial(optim.adam, 0.01), partial(optax.adam, 0.01)),
    "lamb": (partial(optim.lamb, 0.01), partial(optax.lamb, 0.01)),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", GOALS)
@pytest.mark.parametrize("name", NAMES)
def test_steps_match_the_peer(name, dtype):
    assert worst(name, dtype, CONFIGURATIONS[DESCENTS[name].peer]) <= DESCENTS[name].goals[dtype]


def blobs():
    draw = np.random.default_rng(0)
    labels = np.arange(64, dtype=np.int32) % 3
    return jnp.float32(draw.normal(size=(64, 5)) + 2 * np.eye(3, 5)[labels]), jnp.array(labels)


@pytest.mark.parametrize("name", PAIRS)
def test_optax_optimizer_trains_in_a_run_of_fnn(name, peer):
    network = nn.chain(nn.dense(8), nn.tanh(), nn.dense(3))

    def run(make):
        recipe = train.recipe(network, make())
        return train.run(jax.random.key(0), recipe, blobs(), epochs=3, batch_size=16, valid=blobs())

    ours = run(PAIRS[name][0])
    with peer():
        theirs = run(PAIRS[name][1])
    assert ours.history.loss[-1] < ours.history.loss[0]
    chex.assert_trees_all_close(theirs.history.loss, ours.history.loss, rtol=1e-5)
    chex.assert_trees_all_close(theirs.history.valid_loss, ours.history.valid_loss, rtol=1e-5)
    params, expected = theirs.train_state.params, ours.train_state.params
    chex.assert_trees_all_close(params, expected, rtol=1e-4, atol=1e-5)
