"""What a run says while it runs: to the host, once for all lanes, and without a trace in its numbers."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, nn, optim, train

digits = data.digits()
few = (digits.train[0][:100], digits.train[1][:100])
some = (digits.test[0][:80], digits.test[1][:80])
network = nn.chain(nn.flatten(), nn.dense(16), nn.tanh(), nn.dense(10))


def run(key, rate=0.3, tell=None, **options):
    return train.run(key, network, optim.sgd(rate), few, valid=some, epochs=3, batch_size=50, tell=tell, **options)


@pytest.fixture
def heard():
    """What was told, and who to tell it."""
    figures = []
    return figures, lambda told: figures.append({name: np.asarray(value) for name, value in told.items()})


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_each_epoch_is_told_with_its_figures(transform, key, heard):
    figures, tell = heard
    result = transform(partial(run, tell=tell))(key)
    jax.effects_barrier()
    assert list(figures[0]) == ["accuracy", "loss", "over", "rate", "step", "valid_accuracy", "valid_loss"]
    assert [int(one["step"]) for one in figures] == [2, 4, 6] and not any(one["over"] for one in figures)
    np.testing.assert_allclose([one["loss"] for one in figures], result.history.loss.reshape(3, 2).mean(1), rtol=1e-6)
    np.testing.assert_array_equal([one["valid_loss"] for one in figures], result.history.valid_loss)
    chex.assert_trees_all_equal(result.history, transform(run)(key).history)


def test_all_lanes_of_a_mapped_run_are_told_at_once(key, heard):
    figures, tell = heard
    rates = jnp.array([0.1, 0.2, 0.4])
    history = jax.jit(jax.vmap(lambda rate: run(key, rate, tell)))(rates).history
    jax.effects_barrier()
    assert [one["step"].tolist() for one in figures] == [[2] * 3, [4] * 3, [6] * 3]
    np.testing.assert_array_equal(np.stack([one["valid_loss"] for one in figures], 1), history.valid_loss)


def test_the_gradient_does_not_see_it(key, heard):
    figures, tell = heard
    slopes = [jax.grad(lambda rate, t=t: run(key, rate, t).history.valid_loss[-1])(0.1) for t in (tell, None)]
    jax.effects_barrier()
    assert slopes[0] == slopes[1] and len(figures) == 3


def test_a_run_that_is_over_says_so(key, heard):
    figures, tell = heard
    stopping = train.early_stopping(1, min_delta=10.0)
    jax.jit(lambda key: run(key, tell=tell, early_stopping=stopping))(key)
    jax.effects_barrier()
    assert [bool(one["over"]) for one in figures] == [False, False, True]
