"""Which classes a network takes for which."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fnn.lab.plots.class_names import class_names, true_classes
from fnn.lab.plots.figure import SEQUENTIAL, Place, blank, write
from fnn.types import Labels, Logits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COUNTED = 20  # classes at most, for numbers in cells
NAMED = 40  # classes at most, for a name a row
TOLD = 3  # pairs in the caption
GAMMA = 0.5  # of the colors, so that rare confusions can be told from none


def plot_confusion(
    logits: Logits, labels: Labels, path: Place | None = None, *, names: Sequence[str] | None = None
) -> "Figure":
    """A picture of the confusion matrix: how many of each true class (row) were taken for each class (column).

    Cells tell counts, up to 20 classes; their color is the share of the row, so that rare classes show as well. The
    caption tells the accuracy and the pairs most often taken for one another. names: of the classes, else numbers.
    It is the figure, which a notebook shows, and is written to path if one is given. LabelError for a label that
    names no class; ShapeError or DTypeError where logits (n, classes) and labels (n,) do not fit; NonFiniteError
    for logits that are no numbers; ConfigError for other names, for a suffix that names no picture format, or a
    folder that is not there. Needs matplotlib: fnn[plot].
    """
    truth, guess = true_classes("confusion", logits, labels), np.argmax(logits, -1)
    classes = class_names("confusion", names, logits.shape[-1])
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth, guess), 1)
    side = float(np.clip(0.45 * len(counts), 3.5, 12))
    figure, target = blank("confusion", path, figsize=(side + 1.5, side + 0.9))
    from matplotlib.colors import PowerNorm  # by now it is known to be there

    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap=SEQUENTIAL, norm=PowerNorm(GAMMA, vmin=0, vmax=1))
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    if len(counts) <= COUNTED:
        _write_counts(axes, counts, shares)
    _name_classes(axes, classes)
    axes.set_title(f"{np.trace(counts) / counts.sum():.1%} of {counts.sum()} are right")
    figure.supxlabel(_caption(counts, classes), fontsize="small")
    return write(figure, target)


def _write_counts(axes: "Axes", counts: np.ndarray, shares: np.ndarray) -> None:
    for row, column in np.argwhere(counts):
        color = "black" if shares[row, column] ** GAMMA > 0.5 else "white"
        text = f"{counts[row, column]}"
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            color=color,
            fontsize=9 if len(text) < 4 else 7,
        )


def _name_classes(axes: "Axes", classes: list[str]) -> None:
    places = np.arange(0, len(classes), -(-len(classes) // NAMED))
    shown = [classes[place] for place in places]
    axes.set_xticks(places, shown, rotation=90 if max(map(len, shown)) > 2 else 0)
    axes.set_yticks(places, shown)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")


def _caption(counts: np.ndarray, classes: list[str]) -> str:
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    most = np.argsort(-wrong, axis=None, kind="stable")[:TOLD]
    pairs = [divmod(int(place), len(wrong)) for place in most if wrong.flat[place]]
    told = [f"{classes[true]} as {classes[guess]} ({wrong[true, guess]})" for true, guess in pairs]
    return f"most confused: {', '.join(told)}" if told else "none confused"
