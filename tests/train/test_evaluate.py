"""Evaluation and prediction: every example once, for any batch size."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, train
from fnn.types import Metric, Weighted, Weights

X = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
Y = np.arange(23) % 4
network = nn.chain(nn.batch_norm(), nn.dense(4), nn.dropout(0.5))
recipe = train.recipe(network)
weights = Weights(*network.init(jax.random.key(0), (3,))[:2])
logits, _ = network.apply(*weights, X)


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 100])
def test_figures_are_the_means_over_all_examples(batch_size):
    figures = train.evaluate(recipe, weights, (X, Y), batch_size=batch_size)
    np.testing.assert_allclose(
        figures["loss"], objective.cross_entropy(logits, Y).mean(), rtol=1e-6
    )
    np.testing.assert_allclose(
        figures["accuracy"], (np.asarray(logits).argmax(1) == Y).mean(), rtol=1e-7
    )


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_predictions_are_the_outputs_in_order(batch_size):
    predicted = train.predict(recipe, weights, X, batch_size=batch_size)
    np.testing.assert_allclose(predicted, logits, rtol=1e-6, atol=1e-7)


def test_padded_last_batch_causes_no_second_compilation():
    traced = train.recipe(
        nn.chain(nn.elementwise(chex.assert_max_traces(lambda x: x + 0, n=1)), nn.dense(4))
    )
    own, _, _ = nn.chain(nn.flatten(), nn.dense(4)).init(jax.random.key(0), (3,))
    for _ in range(2):
        train.predict(traced, Weights(own, {}), X, batch_size=5)


def test_predict_works_under_vmap():
    keys = jax.random.split(jax.random.key(1), 3)
    members = jax.vmap(lambda key: Weights(*network.init(key, (3,))[:2]))(keys)
    together = jax.vmap(lambda member: train.predict(recipe, member, X))(members)
    alone = train.predict(recipe, jax.tree.map(lambda leaf: leaf[1], members), X)
    np.testing.assert_allclose(together[1], alone, rtol=1e-5, atol=1e-6)


spread = Metric(
    per_example=lambda outputs, targets: outputs[:, 0],
    reduce=lambda statistics, weights: jnp.std(statistics * weights),
)
matrix = Metric(
    per_example=lambda outputs, targets: (outputs.argmax(-1), targets),
    reduce=lambda pair, weights: jnp.zeros((4, 4)).at[pair[1], pair[0]].add(weights),
)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_metric_of_the_set_counts_every_example_once(batch_size):
    """The spread of the set is not the mean of the batches' spreads."""
    own = recipe.replace(metrics={"spread": spread, "matrix": matrix})
    figures = train.evaluate(own, weights, (X, Y), batch_size=batch_size)
    np.testing.assert_allclose(figures["spread"], np.asarray(logits)[:, 0].std(), rtol=1e-5)
    wanted = np.zeros((4, 4))
    np.add.at(wanted, (Y, np.asarray(logits).argmax(1)), 1)
    np.testing.assert_array_equal(figures["matrix"], wanted)
    np.testing.assert_array_equal(matrix(logits, Y), wanted)


def test_history_has_metrics_that_are_arrays(key):
    own = train.recipe(network, optim.sgd(0.1), metrics={"matrix": matrix})
    result = train.run(key, own, (X, Y), epochs=2, batch_size=5, valid=(X, Y))
    assert result.history.matrix.shape == (8, 4, 4) and result.history.valid_matrix.shape == (
        2,
        4,
        4,
    )
    np.testing.assert_array_equal(result.history.valid_matrix.sum((1, 2)), [23, 23])


@pytest.mark.parametrize("batch_size", [2, 23])
def test_weighted_loss_is_the_weighted_mean_over_the_set(batch_size):
    def loss(outputs, targets):
        return Weighted(
            objective.cross_entropy(outputs, targets), (targets != 3).astype(jnp.float32)
        )

    figures = train.evaluate(recipe.replace(loss=loss), weights, (X, Y), batch_size=batch_size)
    wanted = np.asarray(objective.cross_entropy(logits, Y))[Y != 3].mean()
    np.testing.assert_allclose(figures["loss"], wanted, rtol=1e-6)
