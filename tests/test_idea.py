"""The idea of fnn: a run, an ensemble, a search and a hypergradient from one function."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, data, nn, optim, train

pytestmark = pytest.mark.slow

EPOCHS = 2
digits = data.digits()

network = nn.chain(
    nn.conv(8), nn.batch_norm(), nn.relu(), nn.max_pool(),
    nn.residual(nn.chain(nn.conv(8), nn.batch_norm(), nn.relu())),
    nn.global_avg_pool(), nn.dropout(0.1), nn.dense(10),
)  # fmt: skip
policy = augment.chain(augment.random_crop(padding=1), augment.cutout(2))


def run(key, peak, decay):
    steps = train.num_steps(digits.train, epochs=EPOCHS, batch_size=64)
    optimizer = optim.adamw(optim.one_cycle(peak, steps=steps), weight_decay=decay)
    recipe = train.recipe(network, optimizer, augment=policy)
    return train.run(key, recipe, digits.train, valid=digits.test, epochs=EPOCHS, batch_size=64)


def keys():
    return jax.random.split(jax.random.key(0), 2)


def test_a_run_an_ensemble_and_a_search_are_one_function():
    peaks, decays = jnp.array([1e-2, 3e-2]), jnp.array([1e-2, 1e-3])
    one = jax.jit(run)
    members = jax.jit(jax.vmap(run, (0, None, None)))(keys(), 1e-2, 1e-2)
    trials = jax.jit(jax.vmap(chex.assert_max_traces(run, n=1)))(keys(), peaks, decays)
    for lane in range(2):
        member, trial = one(keys()[lane], 1e-2, 1e-2), one(keys()[lane], peaks[lane], decays[lane])
        np.testing.assert_allclose(
            members.history.valid_loss[lane], member.history.valid_loss, atol=1e-5, rtol=0
        )
        np.testing.assert_allclose(trials.history.loss[lane], trial.history.loss, atol=1e-5, rtol=0)


def test_a_hypergradient_is_one_line(key):
    slope = jax.jit(jax.grad(lambda peak: run(key, peak, 1e-2).history.valid_loss[-1]))(1e-2)
    assert jnp.isfinite(slope) and slope != 0
