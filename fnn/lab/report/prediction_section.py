"""The section of predictions: confusion, worst mistakes and reliability, or the residuals."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import ensemble, train
from fnn.lab.plots.class_names import class_names, shorten_all
from fnn.lab.plots.figure import PALETTE, SEQUENTIAL
from fnn.lab.plots.reliability import plot_reliability
from fnn.lab.report.content import evenly_spaced
from fnn.lab.report.markup import Markup, element, grid, items, notice, section, table
from fnn.lab.report.svg import create_panel, figure_markup, images_markup
from fnn.train.recipe import Recipe
from fnn.types import Data, TrainState

MAX_MISTAKES = 12
MAX_CLASSES = 40  # in the table
MAX_MATRIX = 20  # classes of a matrix that fits the page
MAX_PAIRS = 5  # of classes that are confused
LEAST = 1e-30  # of a probability, whose logarithm is used
MAX_POINTS = 1000  # of a scatter plot
NAME_WIDTH = 14  # columns of a class name


def prediction_section(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    part: str,
    names: Sequence[str] | None,
) -> Markup | None:
    """Return the section, or None for outputs that are neither logits nor numbers to predict.

    Args:
        recipe: Of the run.
        train_state: Of the run.
        data: Validated (inputs, targets).
        part: Name of this set, such as "validation".
        names: Name of each class, or None.
    """
    inputs, targets = data
    outputs = train.predict(recipe, train_state, inputs)
    is_one = isinstance(outputs, jax.Array) and isinstance(targets, np.ndarray | jax.Array)
    if not is_one:
        return None
    outputs, targets = np.asarray(outputs, np.float32), np.asarray(targets)
    title = f"Predictions on {part}"
    is_finite = np.isfinite(outputs.reshape(len(outputs), -1)).all(1)
    if not is_finite.all():
        count = len(outputs) - int(is_finite.sum())
        text = f"The outputs of {count:,} of {len(outputs):,} examples are not finite."
        return section("predictions", title, element("p", text))
    is_classifier = recipe.loss.classes or recipe.loss.probabilities
    if is_classifier and outputs.ndim == 2 and targets.ndim in (1, 2):
        truth = targets if targets.ndim == 1 else targets.argmax(-1)
        body = _classes(
            inputs,
            outputs,
            truth,
            names,
        )
    elif targets.shape == outputs.shape and targets.dtype.kind == "f" and not is_classifier:
        body = _residuals(outputs, targets)
    else:
        return None
    return section("predictions", title, *body)


def _classes(
    inputs: Any,
    logits: np.ndarray,
    truth: np.ndarray,
    names: Sequence[str] | None,
) -> list[Markup]:
    count = logits.shape[-1]
    # Labels that are ignored, such as -1, have no class.
    is_known = (truth >= 0) & (truth < count)
    logits, truth = logits[is_known], truth[is_known]
    if not len(truth):
        return [notice("No example has a class.")]
    labels = shorten_all(class_names("report", names, count), NAME_WIDTH)
    notes = []
    sums = logits.sum(-1)
    if (logits >= 0).all() and (np.abs(sums - 1) < 1e-3).all():
        # The loss of a network that ends with a softmax applies a second one.
        logits = np.log(np.maximum(logits, LEAST))
        notes.append(notice("The outputs are probabilities. Their logarithms are used here."))
    predicted = logits.argmax(-1)
    found = ensemble.reliability(jnp.asarray(logits), jnp.asarray(truth))
    caption = "Reliability: points below the diagonal are too confident."
    figure = figure_markup("reliability", plot_reliability(found), caption)
    matrix = _confusion(predicted, truth, labels)
    confidence = np.asarray(jax.nn.softmax(logits)).max(-1)
    wrong = np.flatnonzero(predicted != truth)
    # A stable sort keeps the order of the data among equals.
    order = np.argsort(-confidence[wrong], kind="stable")
    worst = wrong[order][:MAX_MISTAKES]
    titles = []
    for one in worst:
        guess, true = labels[predicted[one]], labels[truth[one]]
        titles.append(f"{guess}, {confidence[one]:.0%}; is {true}")
    text = "No mistakes."
    if len(wrong):
        text = f"{len(wrong):,} of {len(truth):,} are wrong; the {len(worst)} most confident ones:"
    return [
        *notes,
        element(
            "div",
            matrix,
            figure,
            class_="flow",
        ),
        _class_table(predicted, truth, labels),
        element("h3", "Worst mistakes"),
        notice(text),
        _mistakes(inputs, np.flatnonzero(is_known)[worst], titles),
    ]


def _mistakes(inputs: Any, indices: np.ndarray, titles: list[str]) -> Markup:
    """Return the examples at some indices, as images if they are."""
    if not len(indices):
        return Markup()
    is_array = isinstance(inputs, np.ndarray | jax.Array)
    if is_array and inputs.ndim == 4 and inputs.dtype.kind in "uf":
        return images_markup(np.asarray(inputs[indices]), titles)
    names = [f"example {index}" for index in indices]
    return table(("example", "predicted"), zip(names, titles, strict=True))


def _confusion(predicted: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> Markup:
    """Return the confusion matrix, and the pairs of classes that are confused most often."""
    classes = len(labels)
    is_wrong = predicted != truth
    # One number for each pair, since a matrix of many classes would not fit into memory.
    codes = truth[is_wrong].astype(np.int64) * classes + predicted[is_wrong]
    pairs, counts = np.unique(codes, return_counts=True)
    lines = []
    for index in np.argsort(-counts, kind="stable")[:MAX_PAIRS]:
        true, guess = divmod(int(pairs[index]), classes)
        lines.append(f"{labels[true]} as {labels[guess]}: {counts[index]:,}")
    found = items(lines) if lines else notice("None.")
    parts = [element("h3", "Most confused"), found]
    if classes <= MAX_MATRIX:
        matrix = np.zeros((classes, classes), int)
        np.add.at(matrix, (truth, predicted), 1)
        parts = [element("h3", "Confusion matrix"), _matrix(matrix, labels), *parts]
    return element("div", *parts)


def _matrix(counts: np.ndarray, labels: Sequence[str]) -> Markup:
    """Return counts (classes, classes) as a table, shaded by their share of the row."""
    import matplotlib

    colors = matplotlib.colormaps[SEQUENTIAL]
    totals = np.maximum(counts.sum(1, keepdims=True), 1)
    # The root, so that rare confusions differ visibly from none.
    shares = np.sqrt(counts / totals)
    columns = [element("th", element("span", name), scope="col") for name in labels]
    rows = []
    for name, line, row in zip(
        labels,
        counts,
        shares,
        strict=True,
    ):
        cells = [element("th", name, scope="row")]
        for count, share in zip(line.tolist(), row.tolist(), strict=True):
            color = tuple(round(255 * part) for part in colors(share)[:3])
            ink = "#000" if share > 0.5 else "#fff"
            style = f"background:rgb{color};color:{ink}"
            cells.append(element("td", count or "", style=style))
        rows.append(element("tr", *cells))
    caption = element("caption", "Rows: true class. Columns: predicted class.")
    head = element("thead", element("tr", element("td"), *columns))
    body = element(
        "table",
        caption,
        head,
        element("tbody", *rows),
        class_="matrix",
    )
    return element("div", body, class_="scroll")


def _class_table(predicted: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> Markup:
    """Return precision and recall of each class, the least recall first."""
    classes = len(labels)
    counts = np.bincount(truth, minlength=classes)
    found = np.bincount(predicted, minlength=classes)
    right = np.bincount(truth[predicted == truth], minlength=classes)
    recall = right / np.maximum(counts, 1)
    order = [index for index in np.argsort(recall, kind="stable") if counts[index]]
    rows = []
    for index in order[:MAX_CLASSES]:
        precision = "never predicted"
        if found[index]:
            precision = f"{right[index] / found[index]:.1%}"
        rows.append((labels[index], int(counts[index]), f"{recall[index]:.1%}", precision))
    caption = None
    if len(order) > MAX_CLASSES:
        caption = f"The {MAX_CLASSES} classes of the least recall, of {len(order)}."
    return table(("class", "examples", "recall", "precision"), rows, caption=caption)


def _residuals(outputs: np.ndarray, targets: np.ndarray) -> list[Markup]:
    """Return the errors of numbers, compared with the prediction of the mean."""
    # (n, ...) -> (n, columns)
    predicted = outputs.reshape(len(outputs), -1)
    truth = targets.reshape(len(targets), -1).astype(np.float32)
    error = predicted - truth
    rmse = float(np.sqrt(np.square(error).mean()))
    deviation = float(np.sqrt(np.square(truth - truth.mean(0)).mean()))
    rows = [
        ("root mean square error", rmse),
        ("mean absolute error", float(np.abs(error).mean())),
        ("bias (mean of prediction - target)", float(error.mean())),
        ("standard deviation of the targets", deviation),
        ("share of the variance that is explained", 1 - (rmse / max(deviation, 1e-30)) ** 2),
    ]
    chosen = evenly_spaced(len(truth), MAX_POINTS)
    figure, axes = create_panel(height=3.6)
    x = truth[chosen].ravel()[:MAX_POINTS]
    y = predicted[chosen].ravel()[:MAX_POINTS]
    axes.plot(
        x,
        y,
        ".",
        color=PALETTE[0],
        alpha=0.4,
        rasterized=True,
    )
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    axes.plot(
        ends,
        ends,
        "--",
        color="gray",
        linewidth=1,
        label="prediction = target",
    )
    axes.set_xlabel("target")
    axes.set_ylabel("prediction")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    caption = "Predictions against targets; points on the line are right."
    return [table(("figure", "value"), rows), grid([figure_markup("residuals", figure, caption)])]
