"""A network looked at: every example once, whatever the batch size."""

import chex
import jax
import numpy as np
import pytest

from fnn import nn, objective, train

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
