"""Rules of sharpness and gradient noise, on a quadratic whose curvature is known."""

import jax
import numpy as np
import pytest

from fnn import diagnose, nn, objective, optim, train
from fnn.diagnose.curvature_rules import noise_findings
from fnn.diagnose.thresholds import DEFAULT

X = np.random.default_rng(0).standard_normal((256, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [2.0], [3.0]]) + 1).astype(np.float32)
# Hessian of the mean squared error of a linear model with a bias.
FEATURES = np.c_[X, np.ones(256)]
LARGEST = np.linalg.eigvalsh(2 * FEATURES.T @ FEATURES / 256)[-1]


def examine(optimizer):
    recipe = train.recipe(nn.dense(1), optimizer, loss=objective.squared_error)
    result = train.run(jax.random.key(0), recipe, (X, Y), epochs=1, batch_size=32)
    key = jax.random.key(1)
    return diagnose.examine_curvature(key, recipe, result.train_state, (X, Y), batch_size=32)


@pytest.mark.parametrize(
    ("optimizer", "limit"), [(optim.sgd, 2.0), (lambda rate: optim.momentum(rate), 3.8)]
)
def test_a_rate_beyond_the_edge_of_stability_is_noted(optimizer, limit):
    edge = limit / LARGEST
    (found,) = [one for one in examine(optimizer(1.05 * edge)) if one.id == "T17"]
    assert found.measured["sharpness"] == pytest.approx(LARGEST, rel=1e-2)
    assert not [one for one in examine(optimizer(0.95 * edge)) if one.id == "T17"]


def test_batches_far_from_the_noise_scale_are_noted():
    assert "noise" in noise_findings(1000.0, 32, DEFAULT)[0].title
    assert "smaller" in noise_findings(1.0, 32, DEFAULT)[0].title
    assert noise_findings(32.0, 32, DEFAULT) == []
