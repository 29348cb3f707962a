"""Tests of accuracy and top-k accuracy against NumPy and scikit-learn."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import accuracy_score, brier_score_loss, top_k_accuracy_score

from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective import accuracy, binary_accuracy, brier, top_k


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_accuracy_equals_scikit_learn(seed, classes):
    draw = np.random.default_rng(seed)
    logits, labels = draw.normal(size=(20, classes)), draw.integers(0, classes, 20)
    values = accuracy(jnp.float32(logits), jnp.array(labels))
    np.testing.assert_array_equal(values, logits.argmax(-1) == labels)
    np.testing.assert_allclose(values.mean(), accuracy_score(labels, logits.argmax(-1)), rtol=1e-6)


def test_accuracy_is_a_float_for_each_example():
    values = accuracy(jnp.ones((3, 2), jnp.bfloat16), jnp.array([0, 1, 0]))
    chex.assert_shape(values, (3,))
    chex.assert_type(values, jnp.float32)


def test_accuracy_takes_the_first_of_equal_logits():
    logits = jnp.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    np.testing.assert_array_equal(accuracy(logits, jnp.array([0, 1, 0])), [1, 1, 1])
    np.testing.assert_array_equal(accuracy(logits, jnp.array([1, 2, 2])), [0, 0, 0])


def test_the_largest_probability_is_the_true_class():
    logits = jnp.array([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    probabilities = jnp.array([[0.6, 0.4, 0.0], [0.0, 0.7, 0.3]])
    np.testing.assert_array_equal(accuracy(logits, probabilities), [1, 0])


def test_uint8_labels_work_with_many_classes():
    logits = np.zeros((3, 300), np.float32)
    logits[[0, 1, 2], [255, 299, 44]] = 1
    values = accuracy(jnp.array(logits), jnp.array([255, 43, 44], jnp.uint8))
    np.testing.assert_array_equal(values, [1, 0, 1])


def test_the_brier_score_is_the_formula_and_twice_that_of_one_probability():
    draw = np.random.default_rng(0)
    logits, labels = np.float32(draw.normal(size=(20, 4))), draw.integers(0, 4, 20)
    wanted = np.square(softmax(np.float64(logits), -1) - np.eye(4)[labels]).sum(-1)
    np.testing.assert_allclose(brier(logits, labels), wanted, rtol=1e-5)
    z, answers = logits[:, :1], labels % 2
    one = brier_score_loss(answers, 1 / (1 + np.exp(-np.float64(z[:, 0]))))
    np.testing.assert_allclose(brier(z, answers).mean(), 2 * one, rtol=1e-5)
    assert np.isnan(brier(logits, np.full(20, 4))).all()
    weighed = brier(jnp.array(logits).at[3].set(jnp.nan), jnp.array(labels).at[3].set(9), ignore=9)
    assert (weighed.weights == 0).sum() == 1 and np.isfinite(weighed.values).all()


def test_accuracy_of_a_label_out_of_range_is_zero():
    np.testing.assert_array_equal(accuracy(jnp.eye(3), jnp.array([-1, 3, -3])), [0, 0, 0])


def test_sequences_have_a_value_for_each_position():
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(2, 3, 4)), draw.integers(0, 4, (2, 3))
    np.testing.assert_array_equal(
        accuracy(jnp.float32(logits), jnp.array(labels)), logits.argmax(-1) == labels
    )


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_binary_accuracy_equals_scikit_learn(threshold):
    draw = np.random.default_rng(0)
    logits, targets = draw.normal(size=(20, 3)), draw.integers(0, 2, (20, 3))
    guess = 1 / (1 + np.exp(-logits)) > threshold
    values = binary_accuracy(threshold=threshold)(jnp.float32(logits), jnp.array(targets))
    chex.assert_shape(values, (20,))
    np.testing.assert_allclose(values.mean(), (guess == targets).mean(), rtol=1e-6)
    exact = binary_accuracy(threshold=threshold, exact=True)
    values = exact(jnp.float32(logits), jnp.array(targets))
    np.testing.assert_allclose(values.mean(), accuracy_score(targets, guess), rtol=1e-6)


def test_binary_accuracy_of_nan_and_of_wrong_targets():
    logits = jnp.array([[1.0, jnp.nan], [-1.0, 2.0]])
    np.testing.assert_array_equal(binary_accuracy()(logits, jnp.array([[1, 0], [2, 1]])), [0.5] * 2)
    values = binary_accuracy()(logits, jnp.array([[1.0, 0.0], [2.0, 1.0]]))
    np.testing.assert_array_equal(np.isnan(values), [False, True])
    values = binary_accuracy(exact=True)(logits, jnp.array([[1.0, 0.0], [2.0, 1.0]]))
    np.testing.assert_array_equal(values, [0, np.nan])


def test_binary_accuracy_leaves_out_unknown_answers():
    logits = jnp.array([[1.0, jnp.nan, -1.0], [jnp.nan, jnp.nan, jnp.nan], [1.0, 1.0, 1.0]])
    targets = jnp.array([[1, -1, 1], [-1, -1, -1], [1, 1, 1]])
    values, weights = binary_accuracy(ignore=-1)(logits, targets)
    np.testing.assert_array_equal(values, [0.5, 0, 1])
    np.testing.assert_array_equal(weights, [2, 0, 3])
    values, weights = binary_accuracy(ignore=-1, exact=True)(logits, targets)
    np.testing.assert_array_equal(values, [0, 0, 1])
    np.testing.assert_array_equal(weights, [1, 0, 1])


def test_binary_accuracy_of_other_shapes_raises():
    with pytest.raises(ShapeError, match=r"targets: expected the logits' shape \(4, 2\), got \(4,"):
        binary_accuracy()(jnp.ones((4, 2)), jnp.ones(4, jnp.int32))


ERRORS = {
    "fewer labels": (jnp.ones((2, 3)), [0], ShapeError, r"\(2, 3\), got \(1,\)"),
    "scalar label": (jnp.ones((2, 3)), 0, ShapeError, r"\(2, 3\), got \(\)"),
    "column of labels": (jnp.ones((2, 3)), [[0], [1]], ShapeError, r"\(2, 3\), got \(2, 1\)"),
    "fewer probabilities": (
        jnp.ones((2, 3)),
        [[0.5, 0.5], [0.5, 0.5]],
        ShapeError,
        r"\(2, 3\), got \(2, 2\)",
    ),
    "integer logits": (
        jnp.ones((2, 3), jnp.int32),
        [0, 1],
        DTypeError,
        "logits: expected floating",
    ),
    "float labels": (
        jnp.ones((2, 3)),
        [0.0, 1.5],
        DTypeError,
        "labels: expected an integer dtype, got float32",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_labels_of_accuracy_that_do_not_fit_raise(case):
    logits, labels, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        accuracy(logits, jnp.array(labels))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_top_k_equals_scikit_learn(seed, k):
    draw = np.random.default_rng(seed)
    logits, labels = draw.normal(size=(20, 6)), draw.integers(0, 6, 20)
    values = top_k(k)(jnp.float32(logits), jnp.array(labels))
    chex.assert_type(values, jnp.float32)
    wanted = top_k_accuracy_score(labels, logits, k=k, labels=np.arange(6), normalize=False)
    assert values.sum() == wanted


def test_top_1_equals_accuracy():
    draw = np.random.default_rng(0)
    logits = jnp.float32(draw.integers(0, 3, (50, 2, 4)))
    labels = jnp.array(draw.integers(-1, 5, (50, 2)))
    chex.assert_trees_all_equal(top_k(1)(logits, labels), accuracy(logits, labels))


def test_top_k_takes_the_first_of_equal_logits():
    logits = jnp.zeros((4, 4))
    np.testing.assert_array_equal(top_k(2)(logits, jnp.arange(4)), [1, 1, 0, 0])


def test_top_k_of_a_nan_logit_is_zero():
    np.testing.assert_array_equal(top_k(2)(jnp.full((3, 3), jnp.nan), jnp.arange(3)), [0, 0, 0])
    np.testing.assert_array_equal(
        top_k(2)(jnp.array([[jnp.nan, 1.0, 0.0]] * 3), jnp.arange(3)), [0, 1, 0]
    )


def test_top_k_of_a_label_out_of_range_is_zero():
    np.testing.assert_array_equal(top_k(3)(jnp.eye(3), jnp.array([-1, 3, 1])), [0, 0, 1])


@pytest.mark.parametrize("k", [0, -1, 1.0, None])
def test_k_out_of_range_raises(k):
    with pytest.raises(ConfigError, match="top_k k: expected"):
        top_k(k)


@pytest.mark.parametrize("case", ERRORS)
def test_labels_of_top_k_that_do_not_fit_raise(case):
    logits, labels, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        top_k(2)(logits, jnp.array(labels))


def test_k_larger_than_the_number_of_classes_raises():
    with pytest.raises(ShapeError, match="at least k=5 classes"):
        top_k(5)(jnp.ones((2, 4)), jnp.array([0, 1]))
