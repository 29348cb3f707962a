"""The section of predictions: confusion, mistakes, reliability, residuals."""

import jax
import jax.numpy as jnp
import numpy as np
from reports import HOSTILE, NAMES, Page

from fnn import nn, objective, train
from fnn.lab.report.prediction_section import prediction_section
from fnn.types import TrainState

LOGITS = np.array([[3, 0, 0], [0, 3, 0], [2, 0, 0], [0, 0, 4]], np.float32)
TRUTH = np.array([0, 1, 1, 2])
# The outputs are the inputs.
IDENTITY = nn.elementwise(lambda x: x)
STATE = TrainState({}, {}, (), jnp.int32(0), jax.random.key(0))


def section(inputs, targets, names=None, loss=objective.cross_entropy):
    recipe = train.recipe(IDENTITY, loss=loss)
    return prediction_section(recipe, STATE, (inputs, targets), "validation", names)


def cells(page):
    """The text of the confusion matrix."""
    start = page.text.index("predicted class.")
    return page.text[start : page.text.index("Most confused")]


def test_the_matrix_and_the_worst_mistakes_are_those_of_the_predictions():
    page = Page(section(LOGITS, TRUTH, NAMES))
    assert HOSTILE not in cells(page)  # shortened
    assert "cat1" in cells(page) and "a & b1" in cells(page)
    assert "1 of 4 are wrong" in page.text
    confidence = np.exp(2) / (np.exp(2) + 2)
    assert f"example 2cat, {confidence:.0%}; is " in page.text
    assert "as cat: 1" in page.text and "script" not in page.tags


def test_precision_and_recall_are_those_of_each_class():
    page = Page(section(LOGITS, TRUTH))
    assert "1250.0%100.0%" in page.text and "01100.0%50.0%" in page.text


def test_no_mistakes_are_said_so():
    assert "No mistakes." in Page(section(LOGITS[:2], TRUTH[:2])).text


def test_labels_without_a_class_are_left_out():
    loss = objective.ignoring(objective.cross_entropy, -1)
    page = Page(section(LOGITS, np.array([0, 1, -1, 2]), loss=loss))
    assert "0 of 3" in page.text or "No mistakes." in page.text


def test_many_classes_have_pairs_and_no_matrix():
    page = Page(section(3 * np.eye(50, dtype=np.float32), (np.arange(50) + 1) % 50))
    assert "Confusion matrix" not in page.text and "1 as 0: 1" in page.text


def test_probabilities_are_said_so_and_drawn():
    shares = np.asarray(jax.nn.softmax(LOGITS))
    page = Page(section(shares, TRUTH))
    assert "The outputs are probabilities." in page.text
    assert "1 of 4 are wrong" in page.text


def test_residuals_are_compared_with_the_mean():
    outputs = np.array([[1.0], [2], [3], [6]], np.float32)
    targets = np.array([[1.0], [2], [3], [4]], np.float32)
    page = Page(section(outputs, targets, loss=objective.squared_error))
    assert "root mean square error1" in page.text
    assert "bias (mean of prediction - target)0.5" in page.text
    assert "standard deviation of the targets1.118" in page.text
    assert "explained0.2" in page.text


def test_other_outputs_have_no_section():
    sequences = np.zeros((4, 5, 3), np.float32)
    assert section(sequences, np.zeros((4, 5), int)) is None
