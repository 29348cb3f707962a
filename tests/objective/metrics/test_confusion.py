"""Tests of the metrics of class counts against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn

from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective import class_report, confusion_matrix, f1, mean_iou, precision, recall


def jitted(metric):
    return jax.jit(lambda *arguments: metric(*arguments))


CLASSES = 4
AVERAGED = {precision: sklearn.precision_score, recall: sklearn.recall_score, f1: sklearn.f1_score}
every_measure = pytest.mark.parametrize("make", AVERAGED)


def draw(seed, classes=CLASSES, n=23):
    """Logits, labels and weights. One class never occurs, to test the division by zero."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)).astype(np.float32)
    logits[:, 1] -= 9 * (classes > 2)
    labels = rng.integers(0, classes - (classes > 2), n)
    weights = rng.random(n)
    return jnp.array(logits), jnp.array(labels), jnp.array(weights, jnp.float32)


@pytest.mark.parametrize("seed", range(3))
def test_the_confusion_matrix_equals_scikit_learn(seed):
    logits, labels, weights = draw(seed)
    guess, classes = np.argmax(logits, -1), np.arange(CLASSES)
    metric = jitted(confusion_matrix(CLASSES))
    np.testing.assert_array_equal(
        metric(logits, labels), sklearn.confusion_matrix(labels, guess, labels=classes)
    )
    wanted = sklearn.confusion_matrix(labels, guess, labels=classes, sample_weight=weights)
    np.testing.assert_allclose(metric(logits, labels, weights), wanted, rtol=1e-5)


@every_measure
@pytest.mark.parametrize("average", ["macro", "micro", "none", "binary", "weighted"])
def test_each_average_equals_scikit_learn(make, average):
    metric = jitted(make(average=average))
    for seed in range(3):
        classes = 2 if average == "binary" else CLASSES
        logits, labels, weights = draw(seed, classes)
        options = {
            "average": None if average == "none" else average,
            "zero_division": 0,
            "sample_weight": weights,
        }
        if average != "binary":
            options["labels"] = np.arange(classes)
        wanted = AVERAGED[make](labels, np.argmax(logits, -1), **options)
        np.testing.assert_allclose(metric(logits, labels, weights), wanted, rtol=1e-5)


@every_measure
@pytest.mark.parametrize("average", ["macro", "micro", "none", "weighted"])
def test_several_labels_an_example_equal_scikit_learn(make, average):
    logits, _, weights = draw(0)
    targets = np.random.default_rng(1).integers(0, 2, logits.shape)
    options = {"average": None if average == "none" else average, "zero_division": 0}
    wanted = AVERAGED[make](targets, logits > 0, sample_weight=weights, **options)
    metric = jitted(make(average=average, multilabel=True))
    for truth in (targets, targets.astype(bool), np.float32(targets)):
        np.testing.assert_allclose(metric(logits, truth, weights), wanted, rtol=1e-5)
    # Of an unknown answer, the other answers of the example still count.
    void = np.random.default_rng(2).random(logits.shape) < 0.2
    metric = jitted(make(average="micro", multilabel=True, ignore=-1))
    got = metric(jnp.where(void, jnp.nan, logits), np.where(void, -1, targets))
    wanted = AVERAGED[make](targets[~void], np.asarray(logits)[~void] > 0)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_the_mean_iou_equals_scikit_learn_over_the_classes_that_occur():
    for seed in range(3):
        logits, labels, weights = draw(seed)
        guess = np.argmax(logits, -1)
        present = np.union1d(labels, guess)
        options = {"labels": present, "average": "macro", "sample_weight": weights}
        wanted = sklearn.jaccard_score(labels, guess, **options)
        got = METRICS["mean_iou"](logits, labels, weights)
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_the_report_of_classes_equals_scikit_learn():
    logits, labels, weights = draw(1)
    wanted = sklearn.precision_recall_fscore_support(
        labels,
        np.argmax(logits, -1),
        labels=np.arange(CLASSES),
        sample_weight=weights,
        zero_division=0,
    )
    got = jitted(class_report())(logits, labels, weights)
    assert got.shape == (4, CLASSES)
    np.testing.assert_allclose(got, np.stack(wanted), rtol=1e-5)


METRICS = {
    "mean_iou": jitted(mean_iou()),
    "class_report": jitted(class_report()),
    "confusion_matrix": jitted(confusion_matrix(CLASSES)),
    "precision macro": jitted(precision()),
    "recall micro": jitted(recall(average="micro")),
    "f1 none": jitted(f1(average="none")),
}
every_metric = pytest.mark.parametrize("name", METRICS)


@every_metric
def test_examples_of_weight_0_change_nothing(name):
    logits, labels, _ = draw(0)
    padded_logits = jnp.concatenate([logits, jnp.full((3, CLASSES), jnp.nan)])
    padded_labels = jnp.concatenate([labels, jnp.array([2, -1, 9])])
    padded = padded_logits, padded_labels
    metric = METRICS[name]
    weights = jnp.concatenate([jnp.ones(23), jnp.zeros(3)])
    np.testing.assert_array_equal(metric(*padded, weights), metric(logits, labels))
    np.testing.assert_array_equal(metric(*padded, weights.astype(int)), metric(logits, labels))


@every_metric
def test_a_vmap_lane_equals_the_data_set_alone(name):
    logits, labels, weights = (jnp.stack(pair) for pair in zip(draw(0), draw(1), strict=True))
    lanes = jax.vmap(METRICS[name])(logits, labels, weights)
    for lane in range(2):
        np.testing.assert_allclose(
            lanes[lane], METRICS[name](logits[lane], labels[lane], weights[lane]), rtol=1e-6
        )


@every_metric
def test_each_position_of_a_sequence_has_the_weight_of_its_example(name):
    logits, labels, weights = draw(0, n=24)
    by_four = logits.reshape(6, 4, CLASSES), labels.reshape(6, 4)
    wanted = METRICS[name](logits, labels, jnp.repeat(weights[:6], 4))
    np.testing.assert_allclose(METRICS[name](*by_four, weights[:6]), wanted, rtol=1e-6)


@every_metric
@pytest.mark.parametrize("label", [-1, CLASSES, 255])
def test_a_label_out_of_range_gives_nan(name, label):
    logits, labels, _ = draw(0)
    assert np.isnan(METRICS[name](logits, labels.at[3].set(label))).all()


@pytest.mark.parametrize("name", METRICS)
def test_probabilities_and_labels_agree(name):
    logits, labels, _ = draw(0)
    probabilities = 0.1 + 0.6 * jax.nn.one_hot(labels, CLASSES)
    np.testing.assert_array_equal(
        METRICS[name](logits, probabilities), METRICS[name](logits, labels)
    )


@pytest.mark.usefixtures("x64")
@every_metric
def test_they_compute_in_float64(name):
    logits, labels, _ = draw(0)
    got = METRICS[name](logits.astype(jnp.float64), labels)
    assert got.dtype == jnp.float64 and jnp.isfinite(got).all()


ERRORS = {
    "classes": (lambda: confusion_matrix(1), ConfigError, "confusion_matrix classes: expected"),
    "binary labels": (
        lambda: f1(average="binary", multilabel=True),
        ConfigError,
        "f1 average: expected another one than binary",
    ),
    "scores": (
        lambda: f1(multilabel=True)(jnp.ones(2), jnp.ones(2, int)),
        ShapeError,
        r"logits: expected \(n, ..., classes\) with multilabel=True",
    ),
    "one output": (
        lambda: confusion_matrix(3)(jnp.ones((2, 1)), jnp.ones(2, int)),
        ShapeError,
        r"logits: expected \(\.\.\., 3\) .*; give classes=2",
    ),
    "average": (
        lambda: f1(average="mean"),
        ConfigError,
        "f1 average: expected one of macro, micro, binary, none",
    ),
    "width": (
        lambda: confusion_matrix(3)(jnp.ones((2, 4)), jnp.ones(2, int)),
        ShapeError,
        r"logits: expected \(\.\.\., 3",
    ),
    "binary": (
        lambda: precision(average="binary")(jnp.ones((2, 4)), jnp.ones(2, int)),
        ShapeError,
        r"logits: expected \(\.\.\., 2\)",
    ),
    "labels": (
        lambda: recall()(jnp.ones((2, 4)), jnp.ones(3, int)),
        ShapeError,
        "labels: expected one a row",
    ),
    "floats": (
        lambda: recall()(jnp.ones((2, 4)), jnp.ones(2)),
        DTypeError,
        "labels: expected an integer dtype",
    ),
    "logits": (
        lambda: recall()(jnp.ones((2, 4), int), jnp.ones(2, int)),
        DTypeError,
        "logits: expected floating",
    ),
    "weights": (
        lambda: recall()(jnp.ones((2, 4)), jnp.ones(2, int), jnp.ones((2, 1))),
        ShapeError,
        r"weights: expected one an example, \(2,\), got \(2, 1\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
