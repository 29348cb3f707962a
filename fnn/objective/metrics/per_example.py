"""Metrics that are means over examples: functions (outputs, targets) -> one value an example."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ShapeError
from fnn.objective.loss import loss
from fnn.objective.metrics.labels import (
    IGNORED,
    UNKNOWN,
    expect_threshold,
    predict_answer,
    predict_class,
    read_binary,
    read_classes,
)
from fnn.objective.targets import ignored_label
from fnn.types import Labels, Logits, Loss, Number, PerExample, Probabilities, Weighted
from fnn.values import maker


@loss(mode="max")
def accuracy(
    logits: Logits,
    labels: Labels | Probabilities,
    *,
    ignore: int | None = None,
) -> PerExample | Weighted:
    """Accuracy: 1 where the largest logit is at the true class, else 0.

    Of equal logits the first counts. Outputs that are NaN are never right, and neither is a label
    that is not a class. A network with one output predicts class 1 where its logit is positive.

    Args:
        logits: (..., classes); or of one output, (..., 1) or (n,).
        labels: Integers (...); or probabilities (..., classes), whose largest is at the true class:
            rows that do not sum to 1 give NaN. For one output 0 or 1 in any dtype, or probabilities
            of class 1, of the shape of the logits or (...). For several labels an example see
            binary_accuracy.
        ignore: Label that does not count, such as 255 for pixels without a class. Then the result
            is `Weighted`, with the weight 0 at this label.

    Raises:
        ConfigError: `ignore` is not a whole number.
        DTypeError: The logits are not floats, or the labels are neither; or integer labels have the
            shape of the logits of several classes.
        ShapeError: The shapes do not fit, or there are no examples.
    """
    ignore = ignored_label("accuracy ignore", ignore)
    rows, truth = read_classes(logits, labels, ignore=ignore)
    return _weigh(predict_class(rows) == truth, truth, labels, ignore)


@maker
def binary_accuracy(
    *,
    threshold: Number = 0.5,
    exact: bool = False,
    ignore: int | None = None,
) -> Loss:
    """Accuracy of yes-or-no outputs: the share of an example's outputs on the right side.

    An output is taken for yes where σ(logit) > threshold. This is the metric for
    binary_cross_entropy with one output or several labels. It takes logits (n, ...) and targets of
    their shape: 0 or 1 in any dtype, or probabilities, which are yes above 1/2. For logits (n, 1)
    targets may be (n,). Outputs that are NaN are never right; integers other than 0 and 1 count as
    wrong, and floats outside of [0, 1] give NaN.

    Args:
        threshold: Probability, in (0, 1); it may be traced.
        exact: Whether an example is right only if all of its outputs are (subset accuracy).
        ignore: Target that does not count, such as -1 for an unknown answer. Then the metric
            returns `Weighted`, with the number of outputs that count as weights; with `exact`,
            with 1 for an example that has such outputs.

    Raises:
        ConfigError: An option is out of range.
        DTypeError: When called, the logits are not floats.
        ShapeError: When called, the shapes do not fit.
    """
    expect_threshold("binary_accuracy threshold", threshold)
    checks.flag("binary_accuracy exact", exact)
    ignore = ignored_label("binary_accuracy ignore", ignore)

    def binary_accuracy(logits: jax.Array, targets: jax.Array) -> PerExample | Weighted:
        scores, truth = read_binary(logits, targets, ignore=ignore, threshold=threshold)
        right = _values(predict_answer(scores) == truth, truth, targets.reshape(truth.shape))
        right = right.reshape(len(right), -1)  # (n, outputs)
        counts = (truth != IGNORED).reshape(right.shape)
        number = counts.sum(1).astype(right.dtype)
        hits = jnp.where(counts, right, 0).sum(1)
        share = hits / jnp.maximum(number, 1)
        if exact:
            # A comparison would take the NaN of a wrong target for a miss.
            share = jnp.where(share < 1, 0, share)
        if ignore is None:
            return share
        return Weighted(share, jnp.minimum(number, 1) if exact else number)

    return Loss(binary_accuracy, couples_examples=False, mode="max")


@loss(mode="min")
def brier(
    logits: Logits,
    labels: Labels | Probabilities,
    *,
    ignore: int | None = None,
) -> PerExample | Weighted:
    """Brier score, Σ_c (p_c - [c = label])² with p = softmax(logits), from 0 to 2.

    It is a proper score: its expectation is least for the true probabilities. For two classes it is
    2 (p - y)², twice the score of one probability. A label that is not a class makes it NaN
    [Brier 1950; for several classes, the original definition].

    Args:
        logits: (..., classes); or of one output, (..., 1) or (n,).
        labels: As for accuracy.
        ignore: Label that does not count, as for accuracy.

    Raises:
        ConfigError: `ignore` is not a whole number.
        DTypeError: The logits are not floats, or the labels are neither.
        ShapeError: The shapes do not fit, or there are no examples.
    """
    ignore = ignored_label("brier ignore", ignore)
    rows, truth = read_classes(logits, labels, ignore=ignore)
    p = jax.nn.softmax(rows)  # (..., classes)
    # A row of 0 for codes that are not classes.
    targets = jax.nn.one_hot(truth, rows.shape[-1], dtype=p.dtype)
    scores = jnp.square(p - targets).sum(-1)
    values = jnp.where(truth == UNKNOWN, jnp.nan, scores)
    if ignore is None:
        return values
    counts = truth != IGNORED
    # Logits of padding may be NaN.
    return Weighted(jnp.where(counts, values, 0), counts.astype(values.dtype))


@maker
def top_k(k: int, *, ignore: int | None = None) -> Loss:
    """Top-k accuracy: 1 where the true class has one of the k largest logits, else 0.

    Of equal logits the first count. The metric takes logits (..., classes) and labels as accuracy;
    for k = 1 it is accuracy.

    Args:
        k: Number of the largest logits, at least 1.
        ignore: Label that does not count, as for accuracy.

    Raises:
        ConfigError: `k` is not a whole number >= 1, or `ignore` is not a whole number.
        DTypeError: When called, the logits are not floats, or the labels are neither.
        ShapeError: When called, the shapes do not fit, or there are fewer than k classes.
    """
    checks.whole("top_k k", k)
    ignore = ignored_label("top_k ignore", ignore)

    def top_k(logits: Logits, labels: Labels | Probabilities) -> PerExample | Weighted:
        rows, truth = read_classes(logits, labels, ignore=ignore)
        classes = rows.shape[-1]
        if classes < k:
            expected = f"(..., classes) with at least k={k} classes"
            raise ShapeError(
                "logits",
                expected,
                logits.shape,
                "choose a smaller k",
            )
        index = truth[..., None].astype(jnp.result_type(int))  # (..., 1)
        true_logit = jnp.take_along_axis(rows, index.clip(0, classes - 1), -1)  # (..., 1)
        # The index of each class, of the rank of the logits: (1, ..., 1, classes).
        indices = jnp.arange(classes).reshape((1,) * (rows.ndim - 1) + (-1,))
        # Counted are the classes that surely rank after the true one, so that NaN is never right.
        ranks_after = (rows < true_logit) | ((rows == true_logit) & (indices > index))
        after = ranks_after.sum(-1)
        # A clipped label would be taken for the first class.
        return _weigh((truth >= 0) & (after >= classes - k), truth, labels, ignore)

    return Loss(top_k, couples_examples=False, mode="max")


def _weigh(
    right: jax.Array,
    truth: jax.Array,
    labels: jax.Array,
    ignore: int | None,
) -> PerExample | Weighted:
    """Return whether each is right, as floats; with weights if there is a label to ignore."""
    values = _values(right, truth, labels)
    if ignore is None:
        return values
    return Weighted(values, (truth != IGNORED).astype(values.dtype))


def _values(right: jax.Array, truth: jax.Array, targets: jax.Array) -> jax.Array:
    values = right.astype(jnp.float32)
    if jnp.issubdtype(targets.dtype, jnp.floating):
        # Not probabilities: there is no true class to compare with.
        values = jnp.where(truth == UNKNOWN, jnp.nan, values)
    return values
