"""Tests of losses and metrics of one output, and of the figures of each head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, train
from fnn.errors import ConfigError, TreeMismatchError
from fnn.objective.heads import default_metrics
from fnn.types import Loss, Metric

DRAW = np.random.default_rng(0)
LOGITS, LABELS = jnp.float32(DRAW.normal(size=(6, 3))), jnp.array(DRAW.integers(0, 3, 6))
ANGLES = jnp.float32(DRAW.normal(size=(6, 2)))
OUTPUTS = {"digit": LOGITS, "angle": ANGLES}
TARGETS = {"digit": LABELS, "angle": 2 * ANGLES}


@pytest.mark.parametrize(
    "name, outputs, targets",
    [
        ("digit", OUTPUTS, TARGETS),
        ("digit", OUTPUTS, LABELS),
        (1, (ANGLES, LOGITS), (ANGLES, LABELS)),
        (1, (ANGLES, LOGITS), LABELS),
    ],
    ids=["dict", "dict and an array", "tuple", "tuple and an array"],
)
def test_of_measures_one_output(name, outputs, targets):
    hits = objective.of(name, objective.accuracy)
    assert isinstance(hits, Loss)
    np.testing.assert_array_equal(hits(outputs, targets), objective.accuracy(LOGITS, LABELS))
    score = objective.of(name, objective.f1())
    assert isinstance(score, Metric)
    weights = jnp.arange(6.0)
    np.testing.assert_array_equal(
        score(outputs, targets, weights), objective.f1()(LOGITS, LABELS, weights)
    )


def test_of_is_a_value_with_the_leaves_of_its_loss():
    loss = objective.of("digit", objective.cross_entropy(label_smoothing=0.1))
    assert jax.tree.leaves(loss) == [0.1]
    assert loss == objective.of("digit", objective.cross_entropy(label_smoothing=0.1))
    assert repr(loss) == "objective.of('digit', objective.cross_entropy(label_smoothing=0.1))"


@pytest.mark.slow
def test_the_history_has_the_figures_of_each_head(key):
    network = nn.parallel(digit=nn.dense(3), angle=nn.dense(2), join="dict")
    loss = objective.multi_task(
        {"digit": objective.cross_entropy, "angle": objective.squared_error},
        weights={"angle": 0.5},
    )
    recipe = train.recipe(network, optim.sgd(0.1), loss=loss)
    assert list(recipe.metrics) == ["loss_digit", "accuracy_digit", "loss_angle"]
    data = jnp.float32(DRAW.normal(size=(6, 4))), TARGETS
    result = train.run(key, recipe, data, valid=data, epochs=2, batch_size=3)
    history = result.history
    total = history.valid_loss_digit + 0.5 * history.valid_loss_angle
    np.testing.assert_allclose(history.valid_loss, total, rtol=1e-5)
    outputs = train.predict(recipe, result.train_state, data[0])
    np.testing.assert_allclose(
        history.valid_accuracy_digit[-1],
        objective.accuracy(outputs["digit"], LABELS).mean(),
        rtol=1e-6,
    )


def test_metrics_that_are_given_replace_those_of_the_heads():
    loss = objective.multi_task({"digit": objective.cross_entropy})
    recipe = train.recipe(nn.dense(3), optim.sgd(0.1), loss=loss, metrics={})
    assert recipe.metrics == {}


def test_only_losses_of_classes_have_a_default_metric():
    assert list(default_metrics(objective.cross_entropy)) == ["accuracy"]
    for loss in (objective.poisson_nll, objective.gaussian_nll, objective.nt_xent):
        assert default_metrics(loss) == {}
        assert train.recipe(nn.dense(1), optim.sgd(0.1), loss=loss).metrics == {}


ERRORS = {
    "name": (lambda: objective.of(None, objective.accuracy), ConfigError, "of output: expected"),
    "index": (lambda: objective.of(-1, objective.accuracy), ConfigError, "of output: expected"),
    "function": (lambda: objective.of("digit", "accuracy"), ConfigError, "of function: expected"),
    "no dict": (
        lambda: objective.of("digit", objective.accuracy)(LOGITS, LABELS),
        TreeMismatchError,
        "outputs: expected a dict with the entry 'digit', got a",
    ),
    "another name": (
        lambda: objective.of("digits", objective.accuracy)(OUTPUTS, TARGETS),
        TreeMismatchError,
        r"outputs: .*'digits', got a dict with \['digit', 'angle'\]",
    ),
    "targets": (
        lambda: objective.of("digit", objective.accuracy)(OUTPUTS, {"angle": ANGLES}),
        TreeMismatchError,
        r"targets: .*'digit', got a dict with \['angle'\]",
    ),
    "far index": (
        lambda: objective.of(2, objective.accuracy)((LOGITS, ANGLES), LABELS),
        TreeMismatchError,
        r"outputs: expected a tuple with the entry 2, got a tuple with \[0, 1\]",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
