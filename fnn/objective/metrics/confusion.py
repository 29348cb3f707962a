"""Metrics of class counts of a whole data set: confusion matrix, precision, recall, F1, IoU."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.objective.metrics.labels import (
    IGNORED,
    UNKNOWN,
    expect_threshold,
    predict_answer,
    predict_class,
    read_binary,
    read_classes,
    spread,
)
from fnn.objective.targets import ignored_label
from fnn.types import Metric, Number
from fnn.values import maker

AVERAGES = ("macro", "micro", "binary", "none", "weighted")
POSITIVE = 1  # the class of average="binary"
Ratio = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("truth", "prediction"),
    meta_fields=("classes",),
)
@dataclass(frozen=True)
class Decisions:
    """True and predicted classes of examples.

    Attributes:
        truth: int32 (n, ...): a class, UNKNOWN or IGNORED. With several labels an example
            (n, ..., classes): 0 or 1 for each class.
        prediction: Of the same shape; UNKNOWN for outputs that are NaN.
        classes: Number of classes.
    """

    truth: jax.Array
    prediction: jax.Array
    classes: int


class Counts(NamedTuple):
    """Counts by class, or sums of weights, (classes,); NaN if one is not known.

    Attributes:
        hits: Of the class and predicted as it.
        predicted: Predicted as the class.
        true: Of the class.
    """

    hits: jax.Array
    predicted: jax.Array
    true: jax.Array


@maker
def confusion_matrix(
    classes: int,
    *,
    threshold: Number = 0.5,
    ignore: int | None = None,
) -> Metric:
    """Confusion matrix (classes, classes): the true classes in rows, the predicted in columns.

    The entries are counts of examples, or sums of their weights. The metric takes logits
    (n, ..., classes) and integer labels (n, ...) or probabilities. A network with one output,
    (n, ..., 1) or (n,), has 2 classes. A label out of range, probabilities that do not sum to 1 or
    a NaN among the logits make it NaN, unless the weight is 0.

    Args:
        classes: Number of classes, at least 2.
        threshold: Probability in (0, 1) above which a network with one output predicts class 1.
        ignore: Label that does not count, such as 255 for pixels without a class.

    Raises:
        ConfigError: `classes` is not a whole number >= 2, or another option is out of range.
        DTypeError: When called, the logits are not floats, or the labels are neither.
        ShapeError: When called, the shapes do not fit.
    """
    checks.whole("confusion_matrix classes", classes, 2)
    expect_threshold("confusion_matrix threshold", threshold)
    ignore = ignored_label("confusion_matrix ignore", ignore)

    def per_example(logits: jax.Array, labels: jax.Array) -> Decisions:
        rows, truth = read_classes(logits, labels, ignore=ignore, threshold=threshold)
        if rows.shape[-1] != classes:
            raise ShapeError(
                "logits",
                f"(..., {classes}) as in classes",
                logits.shape,
                f"give classes={rows.shape[-1]}",
            )
        return Decisions(truth, predict_class(rows), classes)

    def reduce(decisions: Decisions, weights: jax.Array) -> jax.Array:
        # All examples, and all positions of each, in one axis of rows.
        each = spread(weights, decisions.truth).reshape(-1, 1)
        # An ignored label has a row of zeros.
        truth, prediction = (
            jax.nn.one_hot(labels.reshape(-1), classes, dtype=each.dtype)
            for labels in (decisions.truth, decisions.prediction)
        )
        # (classes, rows) @ (rows, classes), in full float32 also on an accelerator.
        counts = jnp.matmul((each * truth).T, prediction, precision="highest")
        return counts * _nan_if_unknown(decisions, weights)

    return Metric(per_example, reduce)


@maker
def precision(
    *,
    average: str = "macro",
    multilabel: bool = False,
    threshold: Number = 0.5,
    ignore: int | None = None,
) -> Metric:
    """Precision, hits / predicted: of the examples predicted as a class, the share that is of it.

    It is 0 for a class that is never predicted. The metric takes logits (n, ..., classes) and
    integer labels (n, ...) or probabilities. A network with one output, (n, ..., 1) or (n,), has
    two classes, which its targets name by 0 and 1 in any dtype. A label out of range, probabilities
    that do not sum to 1 or a NaN among the logits make it NaN, unless the weight is 0.

    Args:
        average: "macro", the mean over all classes, also those that do not occur; "weighted", the
            mean weighted by the true counts; "micro", of the counts of all classes; "binary",
            class 1 of two; "none", one for each class, (classes,).
        multilabel: Whether an example may have several classes: the targets are then 0 or 1 for
            each logit, and a class is predicted where σ(logit) > threshold.
        threshold: Probability in (0, 1) above which a network with one output predicts class 1; and
            with `multilabel`, above which each class is predicted.
        ignore: Label that does not count, such as 255 for pixels without a class.

    Raises:
        ConfigError: An option is out of range, or `average` is "binary" with `multilabel`.
        DTypeError: When called, the logits are not floats, or the labels are neither.
        ShapeError: When called, the shapes do not fit.
    """

    def ratio(hits: jax.Array, predicted: jax.Array, true: jax.Array) -> jax.Array:
        return _share(hits, predicted)

    return _averaged("precision", ratio, average, multilabel, threshold, ignore)


@maker
def recall(
    *,
    average: str = "macro",
    multilabel: bool = False,
    threshold: Number = 0.5,
    ignore: int | None = None,
) -> Metric:
    """Recall, hits / true: of the examples of a class, the share predicted as it.

    It is 0 for a class that does not occur. Inputs and errors are those of precision.

    Args:
        average: "macro", "weighted", "micro", "binary" or "none", as for precision.
        multilabel: Whether an example may have several classes, as for precision.
        threshold: As for precision.
        ignore: Label that does not count.
    """

    def ratio(hits: jax.Array, predicted: jax.Array, true: jax.Array) -> jax.Array:
        return _share(hits, true)

    return _averaged("recall", ratio, average, multilabel, threshold, ignore)


@maker
def f1(
    *,
    average: str = "macro",
    multilabel: bool = False,
    threshold: Number = 0.5,
    ignore: int | None = None,
) -> Metric:
    """F1 score, 2 hits / (predicted + true): the harmonic mean of precision and recall.

    It is 0 if both are. Inputs and errors are those of precision.

    Args:
        average: "macro", "weighted", "micro", "binary" or "none", as for precision.
        multilabel: Whether an example may have several classes, as for precision.
        threshold: As for precision.
        ignore: Label that does not count.
    """

    return _averaged("f1", _f1, average, multilabel, threshold, ignore)


@maker
def mean_iou(
    *,
    multilabel: bool = False,
    threshold: Number = 0.5,
    ignore: int | None = None,
) -> Metric:
    """Mean intersection over union, hits / (predicted + true - hits), averaged over the classes.

    Classes that are neither true nor predicted in the whole data set are left out of the mean. It
    is the Jaccard index of segmentation; pixels of all examples are counted together. Inputs and
    errors are those of precision.

    Args:
        multilabel: Whether a pixel may have several classes, as for precision.
        threshold: As for precision.
        ignore: Label that does not count, such as 255 for pixels without a class.
    """
    per_example = _reader("mean_iou", multilabel, threshold, ignore)

    def reduce(decisions: Decisions, weights: jax.Array) -> jax.Array:
        hits, predicted, true = _count(decisions, weights, multilabel)
        union = predicted + true - hits  # (classes,)
        # `!= 0` is True for NaN.
        occurs = union != 0
        total = jnp.where(occurs, _share(hits, union), 0).sum()
        return total / jnp.maximum(occurs.sum(), 1).astype(total.dtype)

    return Metric(per_example, reduce, mode="max")


@maker
def class_report(
    *,
    multilabel: bool = False,
    threshold: Number = 0.5,
    ignore: int | None = None,
) -> Metric:
    """Precision, recall, F1 and support of each class, the rows of an array (4, classes).

        precision, recall, f1, support = objective.class_report()(logits, labels)

    The support is the number of examples of a class, or the sum of their weights. Inputs and errors
    are those of precision.

    Args:
        multilabel: Whether an example may have several classes, as for precision.
        threshold: As for precision.
        ignore: Label that does not count.
    """
    per_example = _reader("class_report", multilabel, threshold, ignore)

    def reduce(decisions: Decisions, weights: jax.Array) -> jax.Array:
        counts = _count(decisions, weights, multilabel)
        hits, predicted, true = counts
        return jnp.stack([_share(hits, predicted), _share(hits, true), _f1(*counts), true])

    return Metric(per_example, reduce)


def _averaged(
    name: str,
    ratio: Ratio,
    average: str,
    multilabel: bool,
    threshold: Number,
    ignore: int | None,
) -> Metric:
    """Return the metric ratio(hits, predicted, true) of counts by class."""
    checks.choice(f"{name} average", average, AVERAGES)
    read = _reader(name, multilabel, threshold, ignore)
    if multilabel and average == "binary":
        raise ConfigError(
            f"{name} average",
            "another one than binary with multilabel=True",
            repr(average),
            'choose "none" for one value a class',
        )

    def per_example(logits: jax.Array, labels: jax.Array) -> Decisions:
        decisions = read(logits, labels)
        if average == "binary" and decisions.classes != 2:
            # Class 1 of two is the positive one; of more classes there is none.
            raise ShapeError(
                "logits",
                "(..., 2), as average is binary",
                logits.shape,
                'choose average="macro"',
            )
        return decisions

    def reduce(decisions: Decisions, weights: jax.Array) -> jax.Array:
        counts = _count(decisions, weights, multilabel)
        if average == "micro":
            counts = Counts(*(one.sum() for one in counts))
        values = ratio(*counts)
        if average == "binary":
            return values[POSITIVE]
        if average == "weighted":
            return _share((values * counts.true).sum(), counts.true.sum())
        return values.mean() if average == "macro" else values

    return Metric(per_example, reduce, mode="max")


def _reader(
    name: str,
    multilabel: bool,
    threshold: Number,
    ignore: int | None,
) -> Callable[[jax.Array, jax.Array], Decisions]:
    """Return a function (logits, labels) -> decisions."""
    checks.flag(f"{name} multilabel", multilabel)
    expect_threshold(f"{name} threshold", threshold)
    label = ignored_label(f"{name} ignore", ignore)

    def read(logits: jax.Array, labels: jax.Array) -> Decisions:
        if multilabel:
            scores, truth = read_binary(logits, labels, ignore=label, threshold=threshold)
            if scores.ndim < 2:
                raise ShapeError(
                    "logits",
                    "(n, ..., classes) with multilabel=True",
                    logits.shape,
                    "leave multilabel out for one output",
                )
            return Decisions(truth, predict_answer(scores), scores.shape[-1])
        rows, truth = read_classes(logits, labels, ignore=label, threshold=threshold)
        return Decisions(truth, predict_class(rows), rows.shape[-1])

    return read


def _count(decisions: Decisions, weights: jax.Array, multilabel: bool) -> Counts:
    """Count hits, predictions and true examples by class, each times the weight of its example."""
    counted = decisions.truth != IGNORED  # (n, ...)
    truth, prediction = decisions.truth, decisions.prediction
    if multilabel:
        true_rows = truth == 1  # (n, ..., classes)
        predicted_rows = (prediction == 1) & counted
    else:
        true_rows = jax.nn.one_hot(truth, decisions.classes, dtype=bool)  # (n, ..., classes)
        predicted_rows = jax.nn.one_hot(prediction, decisions.classes, dtype=bool)
        predicted_rows = predicted_rows & counted[..., None]
    known = _nan_if_unknown(decisions, weights)

    def total(marked: jax.Array) -> jax.Array:
        """Sum the marked by class, (n, ..., classes) -> (classes,)."""
        # Of the positions of an example as integers, which are exact for any number of pixels.
        positions = marked.astype(jnp.int32).sum(tuple(range(1, marked.ndim - 1)))
        each = spread(weights, positions)  # (n, classes)
        return (each * positions.astype(each.dtype)).sum(0) * known

    return Counts(total(true_rows & predicted_rows), total(predicted_rows), total(true_rows))


def _nan_if_unknown(decisions: Decisions, weights: jax.Array) -> jax.Array:
    """Return NaN if an example with a weight has a label out of range or a NaN output, else 1."""
    is_unknown = (decisions.truth == UNKNOWN) | (decisions.prediction == UNKNOWN)
    unknown = is_unknown & (decisions.truth != IGNORED)  # (n, ...)
    counted = unknown & (spread(weights, unknown) != 0)
    return jnp.where(counted.any(), jnp.nan, 1.0)


def _f1(hits: jax.Array, predicted: jax.Array, true: jax.Array) -> jax.Array:
    return _share(2 * hits, predicted + true)


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    # 0 / 1 where the whole is 0, since then the part is 0 too.
    return part / jnp.where(whole == 0, 1, whole)
