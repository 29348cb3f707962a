"""Laws of how metrics read outputs and targets: one output, several labels, NaN, void labels."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn

from fnn import nn, objective, optim, train
from fnn.errors import DTypeError, ShapeError
from fnn.types import Metric, Weighted

OPTIONAL = {"ignore": 255}
# Every metric of exclusive classes, by a function of its options.
CLASSES = {
    "accuracy": lambda **options: lambda *args: objective.accuracy(*args, **options),
    "top_k": lambda **options: objective.top_k(1, **options),
    "confusion_matrix": lambda **options: objective.confusion_matrix(2, **options),
    "precision": objective.precision,
    "recall": lambda **options: objective.recall(average="none", **options),
    "f1": objective.f1,
    "f1 binary": lambda **options: objective.f1(average="binary", **options),
    "mean_iou": objective.mean_iou,
    "class_report": objective.class_report,
    "calibration_error": objective.calibration_error,
    "roc_auc": objective.roc_auc,
    "average_precision": objective.average_precision,
}
every_metric = pytest.mark.parametrize("name", CLASSES)
MEANS = {"accuracy", "top_k"}
SCORES = np.float32(np.random.default_rng(0).normal(size=12))
ANSWERS = np.random.default_rng(1).integers(0, 2, 12)
PAIRS = np.stack([np.zeros(12, np.float32), SCORES], 1)


def figure(function, outputs, targets):
    """The value of a metric over a data set."""
    values = function(jnp.asarray(outputs), jnp.asarray(targets))
    if isinstance(values, Weighted):
        return (values.values * values.weights).sum() / values.weights.sum()
    return values if isinstance(function, Metric) else values.mean()


@every_metric
def test_one_output_is_read_as_two_classes(name):
    metric = CLASSES[name]()
    wanted = figure(metric, PAIRS, ANSWERS)
    assert np.isfinite(wanted).all()
    for outputs in (SCORES, SCORES[:, None]):
        for targets in (ANSWERS, ANSWERS.astype(bool), np.float32(ANSWERS), np.uint8(ANSWERS)):
            for shaped in (targets, targets[:, None])[: outputs.ndim]:
                np.testing.assert_allclose(figure(metric, outputs, shaped), wanted, rtol=1e-6)


def test_the_figures_of_one_output_equal_scikit_learn(key):
    x = jax.random.normal(key, (60, 5))
    targets = (x[:, :1] > 0).astype(jnp.int32)
    metrics = {
        "accuracy": objective.accuracy,
        "f1": objective.f1(average="binary"),
        "auc": objective.roc_auc(),
    }
    recipe = train.recipe(
        nn.dense(1), optim.sgd(0.1), loss=objective.binary_cross_entropy, metrics=metrics
    )
    train_state = train.start(key, recipe, (5,))
    measured = train.evaluate(recipe, train_state, (x, targets))
    scores = np.asarray(train.predict(recipe, train_state, x))[:, 0]
    truth = np.asarray(targets)[:, 0]
    np.testing.assert_allclose(measured["accuracy"], ((scores > 0) == truth).mean(), rtol=1e-6)
    np.testing.assert_allclose(measured["f1"], sklearn.f1_score(truth, scores > 0), rtol=1e-6)
    np.testing.assert_allclose(measured["auc"], sklearn.roc_auc_score(truth, scores), rtol=1e-6)


@every_metric
def test_integer_rows_are_never_one_hot_rows(name):
    rows = np.array([[1, 0], [1, 1], [0, 0]])
    for targets in (rows, rows.astype(bool)):
        with pytest.raises(DTypeError, match=r"labels: expected integers .* got .*; for several"):
            figure(CLASSES[name](), PAIRS[:3], targets)


@every_metric
def test_rows_that_are_no_distributions_give_nan(name):
    for row in ([1.0, 1.0], [0.0, 0.0], [2.0, -1.0], [np.nan, 1.0]):
        targets = np.array([[1.0, 0.0], row, [0.0, 1.0]], np.float32)
        assert np.isnan(figure(CLASSES[name](), PAIRS[:3], targets)).all()


@every_metric
@pytest.mark.parametrize("outputs", [PAIRS, SCORES[:, None]], ids=["two outputs", "one output"])
def test_nan_outputs_are_never_right(name, outputs):
    metric = CLASSES[name]()
    dead = figure(metric, np.full_like(outputs, np.nan), ANSWERS)
    broken = figure(metric, np.where(np.arange(12)[:, None] == 3, np.nan, outputs), ANSWERS)
    if name in MEANS:
        right = (SCORES > 0) == ANSWERS
        assert dead == 0
        np.testing.assert_allclose(broken, np.delete(right, 3).sum() / 12, rtol=1e-6)
    else:
        assert np.isnan(dead).all() and np.isnan(broken).all()


def test_one_nan_among_the_logits_is_enough():
    logits = jnp.array([[jnp.nan, 1.0, 0.0], [0.0, jnp.nan, 2.0], [0.0, 1.0, jnp.nan]])
    for labels in ([0, 1, 2], [1, 2, 1]):
        np.testing.assert_array_equal(objective.accuracy(logits, jnp.array(labels)), [0, 0, 0])


@every_metric
@pytest.mark.parametrize("outputs", [PAIRS, SCORES[:, None]], ids=["two outputs", "one output"])
@pytest.mark.parametrize("void, dtype", [(255, np.uint8), (255, np.int32), (-100, np.int32)])
def test_a_void_label_does_not_count(name, outputs, void, dtype):
    kept = np.arange(12) % 3 != 0
    targets = np.where(kept, ANSWERS, np.array(void)).astype(dtype)
    holed = np.where(kept[:, None], outputs, np.nan)
    got = figure(CLASSES[name](ignore=void), holed, targets)
    wanted = figure(CLASSES[name](), outputs[kept], ANSWERS[kept])
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


@every_metric
def test_a_label_out_of_range_is_never_right(name):
    got = figure(CLASSES[name](), SCORES[:, None], np.where(np.arange(12) == 2, 2, ANSWERS))
    right = (SCORES > 0) == ANSWERS
    if name in MEANS:
        np.testing.assert_allclose(got, np.delete(right, 2).sum() / 12, rtol=1e-6)
    else:
        assert np.isnan(got).all()


@every_metric
def test_no_examples_raise(name):
    with pytest.raises(ShapeError, match="expected at least one example"):
        figure(CLASSES[name](), np.zeros((0, 2), np.float32), np.zeros(0, int))


@every_metric
def test_a_tree_or_a_list_in_the_place_of_an_array_raises(name):
    with pytest.raises(DTypeError, match=r"got dict of digit, side; choose one, .*of\('digit'"):
        CLASSES[name]()({"digit": PAIRS, "side": PAIRS}, ANSWERS)
    with pytest.raises(DTypeError, match=r"got tuple of 0, 1; choose one, as in objective.of\(0"):
        CLASSES[name]()((PAIRS, PAIRS), ANSWERS)
    with pytest.raises(DTypeError, match="labels: expected one array, got list"):
        CLASSES[name]()(PAIRS, ANSWERS.tolist())


@pytest.mark.slow
def test_the_positions_of_a_map_are_counted_together():
    draw = np.random.default_rng(0)
    logits, labels = np.float32(draw.normal(size=(3, 4, 5, 2))), draw.integers(0, 2, (3, 4, 5))
    for name in set(CLASSES) - {"roc_auc", "average_precision"}:
        compiled = jax.jit(partial(figure, CLASSES[name]()))
        wanted = compiled(logits.reshape(-1, 2), labels.reshape(-1))
        np.testing.assert_allclose(compiled(logits, labels), wanted, rtol=1e-6)
        scores = logits[..., 1:] - logits[..., :1]
        np.testing.assert_allclose(compiled(scores, labels), wanted, rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_a_threshold_is_a_probability(threshold):
    guess = 1 / (1 + np.exp(-np.float64(SCORES))) > threshold
    wanted = sklearn.f1_score(ANSWERS, guess, average="macro")
    np.testing.assert_allclose(
        jax.jit(lambda t: objective.f1(threshold=t)(SCORES[:, None], ANSWERS))(threshold),
        wanted,
        rtol=1e-6,
    )
