"""Which metrics are better where they are higher, and early stopping by them."""

from functools import partial

import jax
import numpy as np
import pytest

from fnn import lab, nn, objective, optim, train
from fnn.errors import ConfigError
from fnn.train.direction import known_mode

draw = np.random.default_rng(0)
X = draw.normal(size=(48, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)


@objective.loss()
def own_loss(outputs, targets):
    """A declared loss of a user."""
    return outputs[:, 0]


def own_metric(outputs, targets):
    return outputs[:, 0]


@pytest.mark.parametrize(
    ("function", "mode"),
    [
        (objective.accuracy, "max"),
        (objective.top_k(2), "max"),
        (objective.f1(), "max"),
        (objective.roc_auc(), "max"),
        (objective.r2(), "max"),
        (objective.ignoring(objective.accuracy, 255), "max"),
        (objective.masked(objective.accuracy), "max"),
        (objective.calibration_error(), "min"),
        (objective.perplexity(), "min"),
        (objective.cross_entropy, "min"),
        (objective.cross_entropy(label_smoothing=0.1), "min"),
        (partial(objective.cross_entropy, label_smoothing=0.1), "min"),
        (objective.class_weighted(objective.cross_entropy, [1.0, 2.0]), "min"),
        (own_loss, "min"),
        (own_metric, None),
    ],
)
def test_direction_of_metrics(function, mode):
    assert known_mode(function) == mode


@pytest.mark.parametrize("entry", [train.run, partial(lab.fit, show=False)])
def test_early_stopping_by_accuracy_returns_the_most_accurate_epoch(entry):
    stopping = train.early_stopping(2, by="valid_accuracy")
    recipe = train.recipe(nn.dense(2), optim.sgd(0.05), early_stopping=stopping)
    options = {"epochs": 12, "batch_size": 16, "valid": (X, Y)}
    result = entry(jax.random.key(0), recipe, (X, Y), **options)
    best = np.nanmax(result.history.valid_accuracy)
    assert best > result.history.valid_accuracy[0]
    assert train.evaluate(recipe, result.train_state, (X, Y))["accuracy"] == best


def test_a_metric_of_the_user_needs_a_mode():
    by_own = partial(train.early_stopping, 2, by="valid_own")
    make = partial(train.recipe, nn.dense(2), optim.sgd(0.1), metrics={"own": own_metric})
    with pytest.raises(
        ConfigError, match=r"early_stopping mode: expected min or max for valid_own"
    ):
        make(early_stopping=by_own())
    assert make(early_stopping=by_own(mode="max")).stopping_sign == -1
    assert make(early_stopping=train.early_stopping(2)).stopping_sign == 1
