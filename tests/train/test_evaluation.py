"""A network looked at: every example once, whatever the batch size."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, train
from fnn.types import Metric, Weighted

X = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
Y = np.arange(23) % 4
network = nn.chain(nn.batch_norm(), nn.dense(4), nn.dropout(0.5))
params, state, _ = network.init(jax.random.key(0), (3,))
logits, _ = network.apply(params, state, X)


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 100])
def test_figures_are_the_means_over_all_examples(batch_size):
    figures = train.evaluate(network, params, state, (X, Y), batch_size=batch_size)
    np.testing.assert_allclose(figures["loss"], objective.cross_entropy(logits, Y).mean(), rtol=1e-6)
    np.testing.assert_allclose(figures["accuracy"], (np.asarray(logits).argmax(1) == Y).mean(), rtol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_predictions_are_the_outputs_in_order(batch_size):
    predicted = train.predict(network, params, state, X, batch_size=batch_size)
    np.testing.assert_allclose(predicted, logits, rtol=1e-6, atol=1e-7)


def test_a_padded_last_batch_costs_no_compilation():
    traced = nn.chain(nn.elementwise(chex.assert_max_traces(lambda x: x + 0, n=1)), nn.dense(4))
    own, _, _ = nn.chain(nn.flatten(), nn.dense(4)).init(jax.random.key(0), (3,))
    for _ in range(2):
        train.predict(traced, own, {}, X, batch_size=5)


def test_members_predict_under_vmap():
    keys = jax.random.split(jax.random.key(1), 3)
    members, states, _ = jax.vmap(lambda key: (*network.init(key, (3,))[:2], 0))(keys)
    together = jax.vmap(lambda p, s: train.predict(network, p, s, X))(members, states)
    alone = train.predict(network, *(jax.tree.map(lambda leaf: leaf[1], tree) for tree in (members, states)), X)
    np.testing.assert_allclose(together[1], alone, rtol=1e-5, atol=1e-6)


spread = Metric(
    look=lambda outputs, targets: outputs[:, 0], finish=lambda statistics, weights: jnp.std(statistics * weights)
)
matrix = Metric(
    look=lambda outputs, targets: (outputs.argmax(-1), targets),
    finish=lambda seen, weights: jnp.zeros((4, 4)).at[seen[1], seen[0]].add(weights),
)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_a_measure_of_the_whole_set_sees_every_example_once(batch_size):
    """The spread of the set is not the mean of the batches' spreads."""
    measures = {"spread": spread, "matrix": matrix}
    figures = train.evaluate(network, params, state, (X, Y), batch_size=batch_size, metrics=measures)
    np.testing.assert_allclose(figures["spread"], np.asarray(logits)[:, 0].std(), rtol=1e-5)
    wanted = np.zeros((4, 4))
    np.add.at(wanted, (Y, np.asarray(logits).argmax(1)), 1)
    np.testing.assert_array_equal(figures["matrix"], wanted)
    np.testing.assert_array_equal(matrix(logits, Y), wanted)


def test_a_run_keeps_measures_that_are_no_numbers(key):
    result = train.run(
        key, network, optim.sgd(0.1), (X, Y), epochs=2, batch_size=5, valid=(X, Y), metrics={"matrix": matrix}
    )
    assert result.history.matrix.shape == (8, 4, 4) and result.history.valid_matrix.shape == (2, 4, 4)
    np.testing.assert_array_equal(result.history.valid_matrix.sum((1, 2)), [23, 23])


@pytest.mark.parametrize("batch_size", [2, 23])
def test_a_weighted_loss_is_the_mean_over_what_counts_in_the_whole_set(batch_size):
    def loss(outputs, targets):
        return Weighted(objective.cross_entropy(outputs, targets), (targets != 3).astype(jnp.float32))

    figures = train.evaluate(network, params, state, (X, Y), batch_size=batch_size, loss=loss)
    wanted = np.asarray(objective.cross_entropy(logits, Y))[Y != 3].mean()
    np.testing.assert_allclose(figures["loss"], wanted, rtol=1e-6)
