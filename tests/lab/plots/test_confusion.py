"""Cells, colors and caption of the confusion matrix are compared with a count by hand."""

import warnings

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from fnn import lab
from fnn.errors import ConfigError, DTypeError, LabelError, NonFiniteError, ShapeError
from fnn.lab.plots import figure as figure_module
from fnn.lab.plots.class_names import shorten_all, text_width

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


@pytest.mark.parametrize("length", [10, 45, 100])
def test_long_names_leave_room_for_the_matrix(length):
    names = [f"{'a long name ' * 9}"[:length] + str(index) for index in range(4)]
    figure = lab.plot_confusion(LOGITS, LABELS, names=names)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    width, height = axes.get_window_extent().size / figure.dpi
    assert width > 2 and height > 2  # inches
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert len(set(labels)) == 4
    for text in (figure._supxlabel, axes.title):
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width


@pytest.mark.parametrize("name", ["$0-$10", "$0_$10", "x_1^2", r"\frac"])
def test_names_are_text_and_not_mathematics(name, tmp_path):
    figure = lab.plot_confusion(LOGITS, LABELS, tmp_path / "a.png", names=[name, "b", "c", "d"])
    label = figure.axes[0].get_yticklabels()[0]
    assert label.get_text() == name
    assert not label.get_parse_math()


def test_control_characters_in_names_are_escaped(tmp_path):
    names = ["\x1b]0;x\x07", "\udcff", "a\tb", "c\nd"]
    figure = lab.plot_confusion(LOGITS, LABELS, tmp_path / "a.png", names=names)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [r"\x1b]0;x\x07", r"\udcff", r"a\tb", "c\nd"]


@pytest.mark.parametrize("labels", [list("abcd"), np.ma.masked_equal(np.arange(4), 1)])
def test_text_and_masked_labels_raise(labels):
    with pytest.raises(DTypeError, match="plot_confusion labels: expected an array"):
        lab.plot_confusion(np.eye(4), labels)


def test_letters_that_no_font_has_give_one_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(figure_module, "SCRIPT_FONTS", ())
    names = ["고양이", "개", "猫", "แมว"]
    with pytest.warns(UserWarning) as caught:
        lab.plot_confusion(LOGITS, LABELS, tmp_path / "a.png", names=names)
    messages = {str(one.message) for one in caught}
    assert len(messages) == 1
    assert "install one, such as Noto Sans CJK" in messages.pop()


def test_letters_are_taken_from_any_installed_font_that_has_them(tmp_path, monkeypatch):
    # A font without Latin letters that comes with matplotlib, and one with them.
    monkeypatch.setitem(matplotlib.rcParams, "font.family", ["STIXSizeFiveSym"])
    monkeypatch.setattr(figure_module, "SCRIPT_FONTS", ("DejaVu Sans",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lab.plot_confusion(LOGITS, LABELS, tmp_path / "a.png", names=list("abcd"))


def test_the_caption_counts_the_pairs_that_it_has_no_room_for():
    labels = np.repeat(np.arange(4), 4)
    guess = np.tile(np.arange(4), 4)
    figure = lab.plot_confusion(jax.nn.one_hot(guess, 4), labels)
    caption = figure.get_supxlabel().replace("\n", " ")
    expected = "most confused: 0 as 1 (1), 0 as 2 (1), 0 as 3 (1), and 9 more pairs of 1"
    assert caption == expected


@pytest.mark.parametrize(
    ("names", "width", "expected"),
    [
        (["short", "names"], 10, ["short", "names"]),
        (["digit number 1", "digit number 2"], 9, ["digi…er 1", "digi…er 2"]),
        (["aaaaaaaa1zzzz", "aaaaaaaa2zzzz"], 8, ["aaa…zz 0", "aaa…zz 1"]),
        (["고양이고양이", "개"], 7, ["고…양이", "개"]),
    ],
    ids=["short", "different ends", "alike", "wide letters"],
)
def test_shortened_names_differ(names, width, expected):
    shortened = shorten_all(names, width)
    assert shortened == expected
    assert all(text_width(name) <= width for name in shortened)
