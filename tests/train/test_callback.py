"""Callbacks: called on the host once for all lanes, without an effect on the results."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, lab, nn, optim, train
from fnn.errors import ConfigError

digits = data.digits()
few = (digits.train[0][:100], digits.train[1][:100])
some = (digits.test[0][:80], digits.test[1][:80])
network = nn.chain(nn.flatten(), nn.dense(16), nn.tanh(), nn.dense(10))


def run(key, rate=0.3, callback=None, stopping=None):
    recipe = train.recipe(network, optim.sgd(rate), early_stopping=stopping)
    return train.run(key, recipe, few, valid=some, epochs=3, batch_size=50, callback=callback)


@pytest.fixture
def recorded():
    """Return the list of recorded calls, and the callback that appends to it."""
    calls = []

    def callback(step, figures):
        calls.append(
            (np.asarray(step), {name: np.asarray(value) for name, value in figures.items()})
        )

    return calls, callback


@pytest.mark.slow
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_callback_receives_the_figures_of_each_epoch(transform, key, recorded):
    calls, callback = recorded
    result = transform(partial(run, callback=callback))(key)
    jax.effects_barrier()
    steps, figures = zip(*calls, strict=True)
    assert list(figures[0]) == ["accuracy", "loss", "over", "rate", "valid_accuracy", "valid_loss"]
    assert [int(step) for step in steps] == [2, 4, 6] and not any(one["over"] for one in figures)
    np.testing.assert_allclose(
        [one["loss"] for one in figures], result.history.loss.reshape(3, 2).mean(1), rtol=1e-6
    )
    np.testing.assert_array_equal([one["valid_loss"] for one in figures], result.history.valid_loss)
    chex.assert_trees_all_equal(result.history, transform(run)(key).history)


@pytest.mark.parametrize("wrong", [lambda logs: None, lambda a, b, c: None, "print"])
def test_a_callback_of_other_arguments_raises_before_the_run(wrong, key):
    message = r"callback: expected a function of \(step, figures\)"
    with pytest.raises(ConfigError, match=message):
        run(key, callback=wrong)
    recipe = train.recipe(network, optim.sgd(0.1))
    with pytest.raises(ConfigError, match=message):
        lab.fit(key, recipe, few, epochs=1, batch_size=50, callback=wrong, show=False)


def test_callback_is_called_once_for_all_lanes_of_a_mapped_run(key, recorded):
    calls, callback = recorded
    rates = jnp.array([0.1, 0.2, 0.4])
    history = jax.jit(jax.vmap(lambda rate: run(key, rate, callback)))(rates).history
    jax.effects_barrier()
    steps, figures = zip(*calls, strict=True)
    assert [step.tolist() for step in steps] == [[2] * 3, [4] * 3, [6] * 3]
    np.testing.assert_array_equal(
        np.stack([one["valid_loss"] for one in figures], 1), history.valid_loss
    )


@pytest.mark.slow
def test_callback_does_not_change_gradients(key, recorded):
    calls, callback = recorded
    slopes = [
        jax.grad(lambda rate, c=c: run(key, rate, c).history.valid_loss[-1])(0.1)
        for c in (callback, None)
    ]
    jax.effects_barrier()
    assert slopes[0] == slopes[1] and len(calls) == 3


def test_over_is_true_after_early_stopping(key, recorded):
    calls, callback = recorded
    stopping = train.early_stopping(1, min_delta=10.0)
    jax.jit(lambda key: run(key, callback=callback, stopping=stopping))(key)
    jax.effects_barrier()
    assert [bool(figures["over"]) for _, figures in calls] == [False, False, True]
