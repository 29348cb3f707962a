"""Plot of the confusion matrix."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fnn.lab.plots.class_names import (
    class_names,
    shorten_all,
    text_width,
    true_classes,
)
from fnn.lab.plots.figure import SEQUENTIAL, FilePath, create_figure, save_figure
from fnn.types import Labels, Logits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CLASSES_WITH_COUNTS = 20  # above it the cells have no room for numbers
MAX_NAME_WIDTH = 26  # columns of a name; longer ones are shortened
INCHES_PER_COLUMN = 0.085  # of the text at the axes
MAX_NAMES = 40  # on an axis; of more classes only every n-th is named
PAIRS_IN_CAPTION = 3
GAMMA = 0.5  # exponent of the color scale, so that rare confusions differ visibly from none


def plot_confusion(
    logits: Logits,
    labels: Labels,
    path: FilePath | None = None,
    *,
    names: Sequence[str] | None = None,
) -> "Figure":
    """Plot the confusion matrix: examples by true class (row) and predicted class (column).

    Cells show counts, up to 20 classes. Their color is the share of the row, so that rare classes
    are visible too. The caption shows the accuracy and the most frequent confusions. Needs
    matplotlib: pip install '.[plot]'.

    Args:
        logits: (n, classes), as from `train.predict`.
        labels: True classes (n,), or their probabilities (n, classes).
        path: The file to write, such as "confusion.png"; not written if None.
        names: Name of each class; its number if None. Long names are shortened in the middle.

    Returns:
        The figure, which a notebook shows.

    Raises:
        LabelError: A label is outside of 0 <= label < classes.
        ShapeError: `logits` and `labels` do not fit.
        DTypeError: `labels` are not integers or probabilities.
        NonFiniteError: `logits` are not finite.
        ConfigError: There is not one name for each class, the suffix of `path` is not a picture
            format, its folder does not exist, or matplotlib is not installed.
    """
    truth = true_classes("plot_confusion", logits, labels)
    predicted = np.argmax(logits, -1)
    full_names = class_names("plot_confusion", names, logits.shape[-1])
    classes = shorten_all(full_names, MAX_NAME_WIDTH)
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth, predicted), 1)
    side = float(np.clip(0.45 * len(counts), 3.5, 12))  # inches
    # Names need room, the color bar width, and title and caption height.
    name_width = INCHES_PER_COLUMN * max(text_width(name) for name in classes)
    size = (side + 1.5 + name_width, side + 0.9 + name_width)
    figure, target = create_figure("plot_confusion", path, figsize=size)
    from matplotlib.colors import PowerNorm  # create_figure has raised if it is not installed

    axes = figure.subplots()
    totals = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    norm = PowerNorm(GAMMA, vmin=0, vmax=1)
    image = axes.imshow(shares, cmap=SEQUENTIAL, norm=norm)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    if len(counts) <= MAX_CLASSES_WITH_COUNTS:
        _write_counts(axes, counts, shares)
    _name_classes(axes, classes)
    accuracy = np.trace(counts) / counts.sum()
    axes.set_title(f"{accuracy:.1%} of {counts.sum()} are right")
    caption = _caption(counts, classes)
    # Some 12 columns of small text an inch.
    figure.supxlabel(textwrap.fill(caption, int(12 * size[0])), fontsize="small")
    return save_figure(figure, target)


def _write_counts(axes: "Axes", counts: np.ndarray, shares: np.ndarray) -> None:
    for row, column in np.argwhere(counts):
        text = f"{counts[row, column]}"
        # Large shares have a light color.
        is_light = shares[row, column] ** GAMMA > 0.5
        color = "black" if is_light else "white"
        size = 9 if len(text) < 4 else 7
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)


def _name_classes(axes: "Axes", classes: list[str]) -> None:
    interval = -(-len(classes) // MAX_NAMES)
    ticks = np.arange(0, len(classes), interval)
    labels = [classes[tick] for tick in ticks]
    longest = max(text_width(label) for label in labels)
    axes.set_xticks(ticks, labels, rotation=90 if longest > 2 else 0)
    axes.set_yticks(ticks, labels)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")


def _caption(counts: np.ndarray, classes: list[str]) -> str:
    """Name the most frequent confusions with their counts."""
    on_diagonal = np.eye(len(counts), dtype=bool)
    wrong = np.where(on_diagonal, 0, counts)
    largest = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS_IN_CAPTION]
    pairs = []
    for flat_index in largest:
        true, predicted = divmod(int(flat_index), len(wrong))
        count = wrong[true, predicted]
        if count:
            pairs.append(f"{classes[true]} as {classes[predicted]} ({count})")
    if not pairs:
        return "none confused"
    # Of equal counts, the caption has the first ones.
    last = wrong.ravel()[largest[len(pairs) - 1]]
    alike = int((wrong == last).sum() - (wrong.ravel()[largest] == last).sum())
    more = f", and {alike} more pairs of {last}" if alike else ""
    return f"most confused: {', '.join(pairs)}{more}"
