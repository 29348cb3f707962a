"""Figures of instruments within a step: which steps are measured, with which gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.train.instrumentation import instrument_columns
from fnn.types import Instruments

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (96, 6))
Y = jnp.arange(96) % 3
NETWORK = nn.chain(nn.dense(4), nn.relu(), nn.dense(3))


def instruments(measure, every=1):
    """Return instruments with one array, of one column."""
    return Instruments(("measured",), every, measure, lambda *_: {"measured": ("all",)})


@pytest.mark.slow
def test_lanes_that_end_at_different_steps_are_measured_at_every_few_steps_alone():
    steps = []

    def measure(step):
        jax.debug.callback(steps.append, step.record.params["dense_0"]["bias"][0])
        return {"measured": jnp.ones(1)}

    recipe = train.recipe(
        NETWORK,
        optim.sgd(0.1),
        instruments=instruments(measure, every=3),
        early_stopping=train.early_stopping(1),
    )
    valid = X[:32], Y[:32]

    def of_rate(rate):
        changed = recipe.replace(optimizer=optim.sgd(rate))
        return train.run(KEY, changed, (X, Y), epochs=3, batch_size=32, valid=valid).history

    # Without learning, the first lane ends after its second epoch.
    lanes = jax.vmap(of_rate)(jnp.array([0.0, 0.1]))
    jax.effects_barrier()
    measured = np.isfinite(lanes.measured[..., 0])
    np.testing.assert_array_equal(measured[0, :6], np.arange(6) % 3 == 0)
    assert not measured[0, 6:].any()
    np.testing.assert_array_equal(measured[1], np.arange(9) % 3 == 0)
    # Three steps of two lanes, and none of the steps between.
    assert len(steps) == 2 * 3


def test_gradients_are_those_without_the_loss_scale():
    def measure(step):
        return {"measured": step.record.grads["dense_2"]["bias"]}

    plain = train.recipe(NETWORK, optim.sgd(0.1), instruments=instruments(measure))
    scaled = plain.replace(optimizer=optim.loss_scale(optim.sgd(0.1)))
    figures = []
    for recipe in (plain, scaled):
        _, measured = train.step(recipe, train.start(KEY, recipe, (6,)), (X[:32], Y[:32]))
        figures.append(measured["measured"])
    np.testing.assert_allclose(figures[1], figures[0], rtol=1e-4)


def test_the_first_micro_batch_is_measured_with_its_noise():
    noise = nn.dropout(0.5)

    def measure(step):
        y, _ = noise.apply({}, {}, step.inputs, key=jax.random.fold_in(step.key, 0), train=True)
        return {"measured": y[:, 0]}

    network = nn.chain(noise, nn.dense(3))
    recipe = train.recipe(
        network, optim.sgd(0.1), micro_batch_size=8, instruments=instruments(measure)
    )
    state = train.start(KEY, recipe, (6,))
    _, figures = train.step(recipe, state, (X[:32], Y[:32]))
    # Every fourth example is in the first of four micro-batches.
    kept = figures["measured"] != 0
    np.testing.assert_allclose(figures["measured"][kept], 2 * X[:32:4, 0][kept], rtol=1e-6)
    assert 0 < kept.sum() < 8


def test_columns_are_those_of_the_instruments():
    recipe = train.recipe(NETWORK, optim.sgd(0.1))
    params = train.start(KEY, recipe, (6,)).params
    assert instrument_columns(recipe, params, X) == {}
    measured = recipe.replace(instruments=instruments(lambda step: {}))
    assert instrument_columns(measured, params, X) == {"measured": ("all",)}
