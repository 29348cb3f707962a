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
        body = _classes(inputs, outputs, truth, names)
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
    if ((logits >= 0) & (np.abs(logits.sum(-1, keepdims=True) - 1) < 1e-3)).all():
        # The loss of a network that ends with a softmax applies a second one.
        logits = np.log(np.maximum(logits, LEAST))
        notes.append(notice("The outputs are probabilities. Their logarithms are used here."))
    predicted = logits.argmax(-1)
    diagram = plot_reliability(ensemble.reliability(jnp.asarray(logits), jnp.asarray(truth)))
    caption = "Reliability: points below the diagonal are too confident."
    figure = figure_markup("reliability", diagram, caption)
    wrong = np.flatnonzero(predicted != truth)
    confidence = np.asarray(jax.nn.softmax(logits)).max(-1)
    # A stable sort keeps the order of the data among equals.
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_MISTAKES]
    titles = [
        f"{labels[predicted[one]]}, {confidence[one]:.0%}; is {labels[truth[one]]}" for one in worst
    ]
    text = f"{len(wrong):,} of {len(truth):,} are wrong; the {len(worst)} most confident ones:"
    matrix = _confusion(predicted, truth, labels)
    body = [
        *notes,
        element("div", matrix, figure, class_="flow"),
        _class_table(predicted, truth, labels),
    ]
    body += [element("h3", "Worst mistakes"), notice(text if len(wrong) else "No mistakes.")]
    images = np.asarray(inputs)[is_known] if _is_images(inputs) else None
    if images is not None and len(worst):
        body.append(images_markup(images[worst], titles))
    elif len(worst):
        indices = np.flatnonzero(is_known)[worst]
        rows = [(f"example {one}", title) for one, title in zip(indices, titles, strict=True)]
        body.append(table(("example", "predicted"), rows))
    return body


def _confusion(predicted: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> Markup:
    """Return the confusion matrix, and the pairs of classes that are confused most often."""
    classes = len(labels)
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (truth, predicted), 1)
    wrong = counts - np.diag(np.diag(counts))
    largest = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = []
    for true, guess in zip(*np.unravel_index(largest, wrong.shape), strict=True):
        if wrong[true, guess]:
            pairs.append(f"{labels[true]} as {labels[guess]}: {wrong[true, guess]:,}")
    found = items(pairs) if pairs else notice("None.")
    parts = [element("h3", "Most confused"), found]
    if classes <= MAX_MATRIX:
        parts = [element("h3", "Confusion matrix"), _matrix(counts, labels), *parts]
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
    for name, line, row in zip(labels, counts, shares, strict=True):
        cells = [element("th", name, scope="row")]
        for count, share in zip(line.tolist(), row.tolist(), strict=True):
            color = tuple(round(255 * part) for part in colors(share)[:3])
            ink = "#000" if share > 0.5 else "#fff"
            style = f"background:rgb{color};color:{ink}"
            cells.append(element("td", count or "", style=style))
        rows.append(element("tr", *cells))
    caption = element("caption", "Rows: true class. Columns: predicted class.")
    head = element("thead", element("tr", element("td"), *columns))
    body = element("table", caption, head, element("tbody", *rows), class_="matrix")
    return element("div", body, class_="scroll")


def _is_images(inputs: Any) -> bool:
    is_array = isinstance(inputs, np.ndarray | jax.Array)
    return is_array and inputs.ndim == 4 and inputs.dtype.kind in "uf"


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
        precision = f"{right[index] / found[index]:.1%}" if found[index] else "never predicted"
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
    chosen = np.unique(np.linspace(0, len(truth) - 1, MAX_POINTS).astype(int))
    figure, axes = create_panel(height=3.6)
    x, y = truth[chosen].ravel()[:MAX_POINTS], predicted[chosen].ravel()[:MAX_POINTS]
    axes.plot(x, y, ".", color=PALETTE[0], alpha=0.4, rasterized=True)
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    axes.plot(ends, ends, "--", color="gray", linewidth=1, label="prediction = target")
    axes.set_xlabel("target")
    axes.set_ylabel("prediction")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    caption = "Predictions against targets; points on the line are right."
    return [table(("figure", "value"), rows), grid([figure_markup("residuals", figure, caption)])]
