"""Cells, colors and caption of the confusion matrix are compared with a count by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from fnn import lab
from fnn.errors import ConfigError, DTypeError, LabelError, NonFiniteError, ShapeError

LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
GUESS = np.array([0, 0, 1, 1, 1, 1, 0, 2, 2])
LOGITS = jax.nn.one_hot(GUESS, 4)  # a fourth class that never occurs
COUNTS = np.array([[2, 2, 0, 0], [0, 2, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]])


def test_cells_show_counts_and_colors_the_share_of_the_row():
    figure = lab.plot_confusion(LOGITS, LABELS)
    axes = figure.axes[0]
    shown = np.zeros((4, 4), int)
    for text in axes.texts:
        column, row = map(int, text.get_position())
        shown[row, column] = int(text.get_text())
    np.testing.assert_array_equal(shown, COUNTS)
    shares = np.array([[0.5, 0.5, 0, 0], [0, 1, 0, 0], [1 / 3, 0, 2 / 3, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    assert axes.images[0].get_cmap().name == "cividis" and axes.images[0].get_clim() == (0, 1)
    assert axes.get_title() == "66.7% of 9 are right"


def test_the_caption_shows_the_most_frequent_confusions():
    names = ["ant", "bee", "cat", "dog"]
    figure = lab.plot_confusion(LOGITS, LABELS, names=names)
    assert figure.get_supxlabel() == "most confused: ant as bee (2), cat as ant (1)"
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("taken for", "true class")


def test_the_caption_without_confusions():
    for classes in (1, 4):
        labels = LABELS if classes > 1 else np.zeros_like(LABELS)
        figure = lab.plot_confusion(jax.nn.one_hot(labels, classes), labels)
        assert figure.get_supxlabel() == "none confused"
        assert figure.axes[0].get_title() == "100.0% of 9 are right"


def test_many_classes_have_no_counts_and_only_some_names():
    draw = np.random.default_rng(0)
    labels, logits = draw.integers(0, 100, 500), draw.normal(size=(500, 100)).astype(np.float32)
    axes = lab.plot_confusion(logits, labels).axes[0]
    counts = confusion_matrix(labels, logits.argmax(1), labels=range(100))
    np.testing.assert_allclose(
        axes.images[0].get_array(), counts / counts.sum(1, keepdims=True).clip(1)
    )
    assert len(axes.texts) == 0
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        str(index) for index in range(0, 100, 3)
    ]


def test_labels_may_be_probabilities_and_pixels_may_be_examples():
    examples = lab.plot_confusion(LOGITS, jax.nn.one_hot(LABELS, 4))
    pixels = lab.plot_confusion(LOGITS.reshape(3, 3, 4), LABELS.reshape(3, 3))
    shares = [figure.axes[0].images[0].get_array() for figure in (examples, pixels)]
    np.testing.assert_array_equal(*shares)


def test_only_the_picture_is_written(tmp_path):
    target = tmp_path / "confusion.png"
    lab.plot_confusion(LOGITS, LABELS, target)
    assert target.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("logits", "labels", "options", "error", "message"),
    [
        (
            LOGITS,
            LABELS + 2,
            {},
            LabelError,
            "plot_confusion labels: expected 0 <= label < 4, got 4 at index 6",
        ),
        (
            LOGITS,
            LABELS - 1,
            {},
            LabelError,
            "plot_confusion labels: expected 0 <= label < 4, got -1 at index 0",
        ),
        (LOGITS, LABELS[:3], {}, ShapeError, "labels: expected one a row of logits"),
        (LOGITS, LABELS * 1.0, {}, DTypeError, "labels: expected an integer dtype"),
        (
            LOGITS[:0],
            LABELS[:0],
            {},
            ShapeError,
            r"plot_confusion logits: expected \(n, classes\), got \(0, 4\)",
        ),
        (
            jnp.ones(3),
            LABELS,
            {},
            ShapeError,
            r"plot_confusion logits: expected \(n, classes\), got \(3,\)",
        ),
        (
            LOGITS.at[1, 1].set(jnp.nan),
            LABELS,
            {},
            NonFiniteError,
            "plot_confusion logits: expected finite numbers",
        ),
        (
            LOGITS,
            LABELS,
            {"names": ["a", "b"]},
            ConfigError,
            "plot_confusion names: expected one for each of the 4 classes",
        ),
        (
            LOGITS,
            LABELS,
            {"names": "abcd"},
            ConfigError,
            "plot_confusion names: expected one for each of the 4 classes",
        ),
    ],
)
def test_wrong_arguments_raise_and_nothing_is_written(
    logits, labels, options, error, message, tmp_path
):
    with pytest.raises(error, match=message):
        lab.plot_confusion(logits, labels, tmp_path / "confusion.png", **options)
    assert list(tmp_path.iterdir()) == []
