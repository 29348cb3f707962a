"""Metrics of a whole data set that are not means: AUC, calibration, perplexity and R²."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.objective.classification import cross_entropy
from fnn.objective.metrics.per_example import expect_labels, spread
from fnn.objective.targets import expect_pair
from fnn.objective.weights import as_weighted
from fnn.types import LossFunction, Metric, Weighted
from fnn.values import maker

Pair = tuple[jax.Array, jax.Array]


@maker
def roc_auc() -> Metric:
    """Area under the ROC curve, exact: P(score of class 1 > score of class 0), ties counting half.

    It is Mann and Whitney's U / (n₁ n₀). The metric takes scores (n,) or (n, 1), or logits (n, 2),
    whose difference is the score; and targets 0 or 1, (n,) or of the shape of the outputs. It is
    NaN if a class is missing, or for a NaN score or another target, unless its weight is 0.
    ShapeError if the two do not fit.
    """

    def per_example(outputs: jax.Array, labels: jax.Array) -> Pair:
        checks.floating("outputs", outputs)
        if outputs.shape[1:] not in ((), (1,), (2,)):
            expected = "scores (n,) or logits (n, 2)"
            raise ShapeError(
                "outputs",
                expected,
                outputs.shape,
                "give a score an example",
            )
        if labels.shape not in (outputs.shape[:1], outputs.shape):
            expected = f"one an example, {outputs.shape[:1]}"
            raise ShapeError(
                "labels",
                expected,
                labels.shape,
                "give 0 or 1 for each",
            )
        wide = outputs.astype(trees.wide(outputs))
        # The logits' difference has the order of the probability of class 1.
        are_logits = outputs.shape[1:] == (2,)
        scores = wide[:, 1] - wide[:, 0] if are_logits else wide.reshape(-1)  # (n,)
        # Of one-hot rows, the column of class 1.
        column = labels if labels.ndim == 1 else labels[:, -1]
        return scores, column.astype(scores.dtype)

    def reduce(statistics: Pair, weights: jax.Array) -> jax.Array:
        scores, labels = statistics
        each = spread(weights, scores)
        positive = jnp.where(labels == 1, each, 0)
        negative = jnp.where(labels == 0, each, 0)
        wrong = jnp.isnan(scores) | ((labels != 0) & (labels != 1))
        # A NaN score of padding would be sorted to the end, among the others.
        scores = jnp.where(each == 0, 0, scores)
        order = jnp.argsort(scores)
        ranked = scores[order]
        positive = positive[order]
        negative = negative[order]
        # lower[i] is the weight of class 0 among the i lowest scores, (n + 1,).
        lower = jnp.pad(jnp.cumsum(negative), (1, 0))
        step = ranked[1:] != ranked[:-1]
        first_of_tie = jnp.pad(step, (1, 0), constant_values=True)
        last_of_tie = jnp.pad(step, (0, 1), constant_values=True)
        # For each score, the weight of class 0 strictly below it, and at or below it.
        below = jax.lax.cummax(jnp.where(first_of_tie, lower[:-1], 0))
        not_above = jax.lax.cummin(jnp.where(last_of_tie, lower[1:], jnp.inf), reverse=True)
        # The mean of the two counts each tie by half.
        pairs = positive * (below + not_above)
        area = (pairs / (2 * negative.sum())).sum() / positive.sum()
        return area * jnp.where((wrong & (each != 0)).any(), jnp.nan, 1)

    return Metric(per_example, reduce)


@maker
def calibration_error(*, bins: int = 15) -> Metric:
    """Expected calibration error (ECE), Σ_b |B_b| / n |accuracy(B_b) - confidence(B_b)|.

    The confidence is the largest probability; bin b holds those in (b / bins, (b + 1) / bins]. The
    metric takes logits (n, ..., classes) and integer labels (n, ...) or probabilities
    [Guo et al. 2017, arXiv:1706.04599].

    Args:
        bins: Number of bins, at least 1; 15 is that of the paper.

    Raises:
        ConfigError: `bins` is not a whole number >= 1.
        DTypeError: When called, the logits are not floats, or the labels are neither.
        ShapeError: When called, the shapes do not fit.
    """
    checks.whole("calibration_error bins", bins)

    def per_example(logits: jax.Array, labels: jax.Array) -> Pair:
        truth = expect_labels(logits, labels)
        prediction = logits.argmax(-1)
        confidence = jax.nn.softmax(logits.astype(trees.wide(logits))).max(-1)
        return confidence, prediction == truth.astype(prediction.dtype)

    def reduce(statistics: Pair, weights: jax.Array) -> jax.Array:
        confidence, right = statistics
        each = spread(weights, confidence)  # (n, ...)
        index = (jnp.ceil(confidence * bins) - 1).astype(jnp.int32).clip(0, bins - 1)
        # |B| (accuracy - confidence) is the sum of these gaps over the bin.
        gaps = jnp.where(each == 0, 0, each * (right.astype(confidence.dtype) - confidence))
        totals = jnp.zeros(bins, gaps.dtype).at[index].add(gaps)  # (bins,)
        return jnp.abs(totals).sum() / each.sum()

    return Metric(per_example, reduce)


@maker
def perplexity(loss: LossFunction = cross_entropy) -> Metric:
    """Perplexity, exp(Σ w l / Σ w): the exponential of the mean loss over all positions.

    A uniform guess among k classes has the perplexity k. NaN if all weights are 0.

    Args:
        loss: A loss in nats; the metric takes its outputs and targets. If it returns weights, as
            perplexity(ignoring(cross_entropy, label)), they multiply those of the examples.
    """

    def per_example(outputs: jax.Array, targets: jax.Array) -> Weighted:
        return as_weighted(loss(outputs, targets))

    def reduce(statistics: Weighted, weights: jax.Array) -> jax.Array:
        values = statistics.values
        each = spread(weights, values) * statistics.weights.astype(values.dtype)
        # where, since padding may have a loss of NaN.
        total = jnp.where(each == 0, 0, each * values).sum()
        return jnp.exp(total / each.sum())

    return Metric(per_example, reduce)


@maker
def r2() -> Metric:
    """Coefficient of determination R², 1 - Σ w (t - y)² / Σ w (t - mean t)².

    The metric takes outputs and targets (n, ...) of equal shape and averages R² over the numbers of
    an example. If the targets do not vary, it is 1 if all outputs are right, else 0. ShapeError or
    DTypeError if the two do not fit.
    """

    def reduce(statistics: Pair, weights: jax.Array) -> jax.Array:
        outputs, targets = statistics
        each = spread(weights, targets)  # (n, ...)

        def total(values: jax.Array) -> jax.Array:
            """Sum over the examples by weight, (n, ...) -> (1, ...)."""
            return jnp.where(each == 0, 0, each * values).sum(0, keepdims=True)

        # Measured from one of them, so that equal targets have variance 0 without a rounding error.
        reference = jnp.argmax(weights.astype(targets.dtype) != 0)
        moved = targets - targets[reference][None]
        residual = total(jnp.square(targets - outputs))
        variance = total(jnp.square(moved - total(moved) / each.sum(0, keepdims=True)))
        share = 1 - residual / jnp.where(variance == 0, 1, variance)
        is_constant = variance == 0
        constant_score = (residual == 0).astype(share.dtype)
        return jnp.where(is_constant, constant_score, share).mean()

    return Metric(expect_pair, reduce)
