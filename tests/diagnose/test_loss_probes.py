"""Losses at known outputs: right ones and planted mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, train
from fnn.diagnose.loss_probes import SURE, probe_loss

CLASSES = 4
LABELS = (np.arange(60) % CLASSES).astype(np.int32)
OUTPUTS = np.zeros((60, CLASSES), np.float32)
SHARES = np.full(CLASSES, 0.25)


def probe(loss, targets=LABELS, outputs=OUTPUTS, shares=SHARES):
    recipe = train.recipe(nn.dense(CLASSES), loss=loss, metrics={})
    labels = None if shares is None else targets
    return probe_loss(recipe, targets, outputs, labels, shares)


def twice(outputs, labels):
    return objective.cross_entropy(jax.nn.softmax(outputs), labels)


def over_the_batch(outputs, labels):
    log_shares = jax.nn.log_softmax(outputs, 0)
    return -jnp.take_along_axis(log_shares, labels[:, None], 1)[:, 0]


def broadcast(outputs, targets):
    return jnp.square(outputs - targets[None, :]).mean(1)


def test_cross_entropy_has_its_values():
    found = probe(objective.cross_entropy)
    assert found.even == pytest.approx(np.log(CLASSES), rel=1e-5)
    assert found.chance == pytest.approx(np.log(CLASSES), rel=1e-5)
    assert found.right == pytest.approx(np.log(1 + 3 * np.exp(-SURE)), rel=1e-3)
    assert found.wrong == pytest.approx(SURE, rel=1e-3)
    assert found.coupling == 0


def test_the_chance_of_unbalanced_classes_is_their_entropy():
    labels = (np.arange(100) >= 90).astype(np.int32)
    shares = np.array([0.9, 0.1])
    outputs = np.zeros((100, 2), np.float32)
    found = probe(objective.cross_entropy, labels, outputs, shares)
    assert found.chance == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-4)


def test_a_second_softmax_bounds_the_loss_from_below():
    found = probe(twice)
    assert found.surer == pytest.approx(np.log(1 + 3 * np.exp(-1.0)), rel=1e-3)


def test_a_softmax_over_the_batch_couples_the_examples():
    assert probe(over_the_batch).coupling > 0.1


def test_a_broadcast_difference_couples_the_examples():
    targets = np.linspace(-1, 1, 60).astype(np.float32)
    found = probe(broadcast, targets, np.zeros((60, 1), np.float32), None)
    # Each output is compared with all targets: none of the values changes that of another.
    assert found.right > 0.1


def test_the_chance_of_a_regression_is_the_variance():
    targets = np.linspace(-1, 1, 60).astype(np.float32)[:, None]
    found = probe(objective.squared_error, targets, np.zeros((60, 1), np.float32), None)
    assert found.chance == pytest.approx(targets.var(), rel=1e-4)
    assert found.right == 0
