"""Tests of the areas under curves against scikit-learn and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import softmax
from sklearn import metrics as sklearn

from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective import average_precision, roc_auc


def jitted(metric):
    return jax.jit(lambda *arguments: metric(*arguments))


auc, precision = jitted(roc_auc()), jitted(average_precision())


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 1000]))
def test_roc_auc_equals_scikit_learn_with_ties_and_weights(seed, levels):
    draw = np.random.default_rng(seed)
    scores = np.float32(draw.integers(0, levels, 40)) / 7
    labels, weights = np.arange(40) % 2, np.float32(draw.random(40))
    np.testing.assert_allclose(
        auc(scores, labels), sklearn.roc_auc_score(labels, scores), rtol=1e-6
    )
    wanted = sklearn.roc_auc_score(labels, scores, sample_weight=weights)
    np.testing.assert_allclose(auc(scores, labels, weights), wanted, rtol=1e-5)


def test_roc_auc_equals_mann_and_whitneys_u():
    draw = np.random.default_rng(0)
    scores, labels = np.float32(draw.normal(size=1000).round(1)), draw.integers(0, 2, 1000)
    u = stats.mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    np.testing.assert_allclose(
        auc(scores, labels), u / (labels.sum() * (1 - labels).sum()), rtol=1e-6
    )


@pytest.mark.slow
def test_scores_may_be_columns_or_logits():
    draw = np.random.default_rng(0)
    logits, labels = jnp.array(draw.normal(size=(9, 2)), jnp.float32), jnp.arange(9) % 2
    wanted = auc(logits[:, 1] - logits[:, 0], labels)
    assert 0 < wanted < 1
    for outputs, targets in (
        (logits, labels),
        (logits, jax.nn.one_hot(labels, 2)),
        (logits[:, 1:] - logits[:, :1], labels),
        (logits[:, 1:] - logits[:, :1], labels[:, None].astype(jnp.float32)),
        (logits[:, 1] - logits[:, 0], labels == 1),
    ):
        np.testing.assert_array_equal(auc(outputs, targets), wanted)


@pytest.mark.parametrize(
    "scores, labels",
    [
        ([1.0, 2.0], [1, 1]),
        ([1.0, 2.0], [0, 0]),
        ([1.0, np.nan, 2.0], [0, 1, 1]),
        ([1.0, 0.0, 2.0], [0, 1, 2]),
    ],
)
def test_an_undefined_roc_auc_is_nan(scores, labels):
    assert np.isnan(auc(jnp.array(scores), jnp.array(labels)))


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 1000]))
def test_average_precision_equals_scikit_learn_with_ties_and_weights(seed, levels):
    draw = np.random.default_rng(seed)
    scores = np.float32(draw.integers(0, levels, 40)) / 7
    labels, weights = np.arange(40) % 2, np.float32(draw.random(40))
    wanted = sklearn.average_precision_score(labels, scores)
    np.testing.assert_allclose(precision(scores, labels), wanted, rtol=1e-6)
    wanted = sklearn.average_precision_score(labels, scores, sample_weight=weights)
    np.testing.assert_allclose(precision(scores, labels, weights), wanted, rtol=1e-5)


def test_average_precision_without_the_class_is_nan():
    assert np.isnan(average_precision()(jnp.array([1.0, 2.0]), jnp.array([0, 0])))
    assert np.isnan(average_precision()(jnp.array([1.0, jnp.nan]), jnp.array([0, 1])))


MAKERS = {roc_auc: sklearn.roc_auc_score, average_precision: sklearn.average_precision_score}
every_area = pytest.mark.parametrize("make", MAKERS)
every_average = pytest.mark.parametrize("average", ["macro", "weighted", "micro", "none"])


def several(seed=0, n=60):
    draw = np.random.default_rng(seed)
    return np.float32(2 * draw.normal(size=(n, 4))), draw.integers(0, 4, n)


@every_area
@every_average
def test_each_class_against_the_rest_equals_scikit_learn(make, average):
    logits, labels = several()
    rows = np.eye(4, dtype=int)[labels]
    named = None if average == "none" else average
    wanted = MAKERS[make](rows, softmax(np.float64(logits), -1), average=named)
    metric = jitted(make(average=average))
    np.testing.assert_allclose(metric(logits, labels), wanted, rtol=1e-5)
    np.testing.assert_array_equal(metric(logits, np.float32(rows)), metric(logits, labels))
    if make is roc_auc and average in ("macro", "weighted"):
        options = {"multi_class": "ovr", "average": average}
        wanted = sklearn.roc_auc_score(labels, softmax(np.float64(logits), -1), **options)
        np.testing.assert_allclose(metric(logits, labels), wanted, rtol=1e-5)


@every_area
@every_average
def test_several_labels_an_example_equal_scikit_learn(make, average):
    logits, targets = several()[0], np.random.default_rng(1).integers(0, 2, (60, 4))
    weights = np.float32(np.random.default_rng(2).random(60))
    options = {"average": None if average == "none" else average, "sample_weight": weights}
    wanted = MAKERS[make](targets, logits, **options)
    metric = jitted(make(average=average, multilabel=True))
    for truth in (targets, targets.astype(bool), np.float32(targets)):
        np.testing.assert_allclose(metric(logits, truth, weights), wanted, rtol=1e-5)


@every_area
def test_the_order_of_sure_predictions_is_kept(make):
    """Both probabilities round to 1 in float32; their odds do not."""
    logits = jnp.array([[40.0, 0.0, 0.0], [50.0, 0.0, 0.0], [0.0, 30.0, 0.0], [0.0, 0.0, 30.0]])
    labels = jnp.array([1, 0, 1, 2])
    assert make(average="none")(logits, labels)[0] == 1


@every_area
def test_a_label_that_does_not_count_changes_nothing(make):
    logits, labels = several()
    void = np.arange(60) % 5 == 0
    padded = np.where(void, 255, labels)
    metric = jitted(make())
    assert np.isnan(metric(logits, padded))
    logits_of_void = np.where(void[:, None], np.nan, logits)
    np.testing.assert_allclose(
        jitted(make(ignore=255))(logits_of_void, padded),
        metric(logits[~void], labels[~void]),
        rtol=1e-6,
    )


ERRORS = {
    "average": (lambda: roc_auc(average="binary"), ConfigError, "roc_auc average: expected one of"),
    "flag": (lambda: average_precision(multilabel=1), ConfigError, "multilabel: expected True"),
    "ignore": (lambda: roc_auc(ignore=0.5), ConfigError, "roc_auc ignore: expected a whole number"),
    "maps": (
        lambda: roc_auc()(jnp.ones((2, 3, 4)), jnp.ones(2, int)),
        ShapeError,
        r"outputs: expected scores \(n,\) or logits \(n, classes\)",
    ),
    "one output": (
        lambda: roc_auc(multilabel=True)(jnp.ones(2), jnp.ones(2, int)),
        ShapeError,
        "outputs: expected logits",
    ),
    "several labels": (
        lambda: roc_auc()(jnp.ones((2, 3)), jnp.ones((2, 3), int)),
        DTypeError,
        "labels: expected integers .* multilabel=True",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
