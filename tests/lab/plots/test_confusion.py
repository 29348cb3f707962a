"""The picture of the confusion matrix: its cells, colors and caption, against a count by hand."""

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


def test_cells_tell_counts_and_their_color_the_share_of_the_row():
    figure = lab.plot_confusion(LOGITS, LABELS)
    axes = figure.axes[0]
    told = np.zeros((4, 4), int)
    for text in axes.texts:
        column, row = map(int, text.get_position())
        told[row, column] = int(text.get_text())
    np.testing.assert_array_equal(told, COUNTS)
    shares = np.array([[0.5, 0.5, 0, 0], [0, 1, 0, 0], [1 / 3, 0, 2 / 3, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    assert axes.images[0].get_cmap().name == "cividis" and axes.images[0].get_clim() == (0, 1)
    assert axes.get_title() == "66.7% of 9 are right"


def test_the_caption_tells_what_is_most_confused():
    names = ["ant", "bee", "cat", "dog"]
    figure = lab.plot_confusion(LOGITS, LABELS, names=names)
    assert figure.get_supxlabel() == "most confused: ant as bee (2), cat as ant (1)"
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("taken for", "true class")


def test_where_nothing_is_confused_that_is_told():
    for classes in (1, 4):
        figure = lab.plot_confusion(
            jax.nn.one_hot(LABELS * (classes > 1), classes), LABELS * (classes > 1)
        )
        assert (
            figure.get_supxlabel() == "none confused"
            and figure.axes[0].get_title() == "100.0% of 9 are right"
        )


def test_many_classes_have_colors_but_no_numbers_and_some_names():
    draw = np.random.default_rng(0)
    labels, logits = draw.integers(0, 100, 500), draw.normal(size=(500, 100)).astype(np.float32)
    axes = lab.plot_confusion(logits, labels).axes[0]
    counts = confusion_matrix(labels, logits.argmax(1), labels=range(100))
    np.testing.assert_allclose(
        axes.images[0].get_array(), counts / counts.sum(1, keepdims=True).clip(1)
    )
    assert len(axes.texts) == 0
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        str(place) for place in range(0, 100, 3)
    ]


def test_probabilities_are_labels_too_and_all_pixels_are_examples():
    one = lab.plot_confusion(LOGITS, jax.nn.one_hot(LABELS, 4)).axes[0].images[0].get_array()
    pixels = (
        lab.plot_confusion(LOGITS.reshape(3, 3, 4), LABELS.reshape(3, 3))
        .axes[0]
        .images[0]
        .get_array()
    )
    np.testing.assert_array_equal(one, pixels)


def test_it_is_written_whole(tmp_path):
    target = tmp_path / "confusion.png"
    lab.plot_confusion(LOGITS, LABELS, target)
    assert target.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("logits", "labels", "options", "error", "message"), [
    (LOGITS, LABELS + 2, {}, LabelError, "confusion labels: expected 0 <= label < 4, got 4 at index 6"),
    (LOGITS, LABELS - 1, {}, LabelError, "confusion labels: expected 0 <= label < 4, got -1 at index 0"),
    (LOGITS, LABELS[:3], {}, ShapeError, "labels: expected one a row of logits"),
    (LOGITS, LABELS * 1.0, {}, DTypeError, "labels: expected an integer dtype"),
    (LOGITS[:0], LABELS[:0], {}, ShapeError, r"confusion logits: expected \(n, classes\), got \(0, 4\)"),
    (jnp.ones(3), LABELS, {}, ShapeError, r"confusion logits: expected \(n, classes\), got \(3,\)"),
    (LOGITS.at[1, 1].set(jnp.nan), LABELS, {}, NonFiniteError, "confusion logits: expected finite numbers"),
    (LOGITS, LABELS, {"names": ["a", "b"]}, ConfigError, "confusion names: expected one for each of the 4 classes"),
    (LOGITS, LABELS, {"names": "abcd"}, ConfigError, "confusion names: expected one for each of the 4 classes"),
])  # fmt: skip
def test_mistakes_are_told_and_nothing_is_written(
    logits, labels, options, error, message, tmp_path
):
    with pytest.raises(error, match=message):
        lab.plot_confusion(logits, labels, tmp_path / "confusion.png", **options)
    assert list(tmp_path.iterdir()) == []
