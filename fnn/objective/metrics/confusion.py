"""Metrics of a whole data set made of class counts: confusion matrix, precision, recall and F1."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ShapeError
from fnn.objective.metrics.per_example import expect_labels, spread
from fnn.objective.targets import as_int32
from fnn.types import Metric
from fnn.values import maker

AVERAGES = ("macro", "micro", "binary", "none")
# Truth and prediction, each one-hot (n, ..., classes). A wrong label has a row without a 1.
Statistics = tuple[jax.Array, jax.Array]
Ratio = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@maker
def confusion_matrix(classes: int) -> Metric:
    """Confusion matrix (classes, classes): the true classes in rows, the predicted in columns.

    The entries are counts of examples, or sums of their weights. The metric takes logits
    (n, ..., classes) and integer labels (n, ...) or probabilities. A label out of range makes it
    NaN, unless its weight is 0.

    Args:
        classes: Number of classes, at least 1.

    Raises:
        ConfigError: `classes` is not a whole number >= 1.
        DTypeError: When called, the logits are not floats, or the labels are neither.
        ShapeError: When called, the shapes do not fit.
    """
    checks.whole("confusion_matrix classes", classes)

    def per_example(logits: jax.Array, labels: jax.Array) -> Statistics:
        if logits.shape[-1:] != (classes,):
            expected = f"(..., {classes}) as in classes"
            advice = "give their number as classes"
            raise ShapeError(
                "logits",
                expected,
                logits.shape,
                advice,
            )
        return _one_hot_pair(logits, labels)

    def reduce(statistics: Statistics, weights: jax.Array) -> jax.Array:
        # All examples, and all positions of each, in one axis of rows.
        rows = spread(weights, statistics[0][..., 0]).reshape(-1, 1)
        truth, prediction = (one.reshape(-1, classes).astype(rows.dtype) for one in statistics)
        # (classes, rows) @ (rows, classes), in full float32 also on an accelerator.
        counts = jnp.matmul((rows * truth).T, prediction, precision="highest")
        return counts * _nan_if_unknown(statistics, weights)

    return Metric(per_example, reduce)


@maker
def precision(*, average: str = "macro") -> Metric:
    """Precision, hits / predicted: of the examples predicted as a class, the share that is of it.

    It is 0 for a class that is never predicted. The metric takes logits (n, ..., classes) and
    integer labels (n, ...) or probabilities. A label out of range makes it NaN, unless its weight
    is 0.

    Args:
        average: "macro", the mean over all classes, also those that do not occur; "micro", of the
            counts of all classes; "binary", class 1 of two; "none", one for each class, (classes,).

    Raises:
        ConfigError: `average` is not one of these.
        DTypeError: When called, the logits are not floats, or the labels are neither.
        ShapeError: When called, the shapes do not fit.
    """

    def ratio(hits: jax.Array, predicted: jax.Array, true: jax.Array) -> jax.Array:
        return _share(hits, predicted)

    return _of_counts("precision", average, ratio)


@maker
def recall(*, average: str = "macro") -> Metric:
    """Recall, hits / true: of the examples of a class, the share predicted as it.

    It is 0 for a class that does not occur. Inputs and errors are those of precision.

    Args:
        average: "macro", "micro", "binary" or "none", as for precision.
    """

    def ratio(hits: jax.Array, predicted: jax.Array, true: jax.Array) -> jax.Array:
        return _share(hits, true)

    return _of_counts("recall", average, ratio)


@maker
def f1(*, average: str = "macro") -> Metric:
    """F1 score, 2 hits / (predicted + true): the harmonic mean of precision and recall.

    It is 0 if both are. Inputs and errors are those of precision.

    Args:
        average: "macro", "micro", "binary" or "none", as for precision.
    """

    def ratio(hits: jax.Array, predicted: jax.Array, true: jax.Array) -> jax.Array:
        return _share(2 * hits, predicted + true)

    return _of_counts("f1", average, ratio)


def _of_counts(name: str, average: str, ratio: Ratio) -> Metric:
    """Return the metric ratio(hits, predicted, true) of counts by class."""
    checks.choice(f"{name} average", average, AVERAGES)

    def per_example(logits: jax.Array, labels: jax.Array) -> Statistics:
        if average == "binary" and logits.shape[-1:] != (2,):
            # Class 1 of two is the positive one; of more classes there is none.
            expected = "(..., 2), as average is binary"
            raise ShapeError(
                "logits",
                expected,
                logits.shape,
                'choose average="macro"',
            )
        return _one_hot_pair(logits, labels)

    def reduce(statistics: Statistics, weights: jax.Array) -> jax.Array:
        truth, prediction = statistics
        each = spread(weights, truth)  # (n, ..., classes)

        def count(marked: jax.Array) -> jax.Array:
            """Sum the weights of the marked, (n, ..., classes) -> (classes,)."""
            return jnp.where(marked, each, 0).sum(tuple(range(marked.ndim - 1)))

        counts = [count(truth & prediction), count(prediction), count(truth)]
        if average == "micro":
            counts = [one.sum() for one in counts]
        values = ratio(*counts) * _nan_if_unknown(statistics, weights)
        if average == "binary":
            return values[1]
        return values.mean() if average == "macro" else values

    return Metric(per_example, reduce)


def _one_hot_pair(logits: jax.Array, labels: jax.Array) -> Statistics:
    classes = logits.shape[-1]
    truth = as_int32(expect_labels(logits, labels))
    # A label out of range has a row of zeros.
    true_rows = jax.nn.one_hot(truth, classes, dtype=bool)  # (n, ..., classes)
    predicted_rows = jax.nn.one_hot(logits.argmax(-1), classes, dtype=bool)
    return true_rows, predicted_rows


def _nan_if_unknown(statistics: Statistics, weights: jax.Array) -> jax.Array:
    """Return NaN if an example with a weight has a label out of range, else 1."""
    unknown = ~statistics[0].any(-1)
    counted = unknown & (spread(weights, unknown) != 0)
    return jnp.where(counted.any(), jnp.nan, 1.0)


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    # 0 / 1 where the whole is 0, since then the part is 0 too.
    return part / jnp.where(whole == 0, 1, whole)
