"""Metrics of a whole data set that are not means: calibration, perplexity and R²."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.objective.classification import cross_entropy
from fnn.objective.metrics.labels import IGNORED, UNKNOWN, predict_class, read_classes, spread
from fnn.objective.targets import expect_pair, ignored_label
from fnn.objective.weights import as_weighted
from fnn.types import LossFunction, Metric, Weighted
from fnn.values import maker

Pair = tuple[jax.Array, jax.Array]
# Confidence, whether the prediction is right, and whether the example counts, each (n, ...).
Confidences = tuple[jax.Array, jax.Array, jax.Array]


@maker
def calibration_error(*, bins: int = 15, ignore: int | None = None) -> Metric:
    """Expected calibration error (ECE), Σ_b |B_b| / n |accuracy(B_b) - confidence(B_b)|.

    The confidence is the largest probability; bin b holds those in (b / bins, (b + 1) / bins]. The
    metric takes logits (n, ..., classes) and integer labels (n, ...) or probabilities; a network
    with one output, (n, ..., 1) or (n,), has two classes. A label out of range makes it NaN, unless
    the weight is 0 [Guo et al. 2017, arXiv:1706.04599].

    Args:
        bins: Number of bins, at least 1; 15 is that of the paper.
        ignore: Label that does not count, such as 255 for pixels without a class.

    Raises:
        ConfigError: `bins` is not a whole number >= 1, or `ignore` is not a whole number.
        DTypeError: When called, the logits are not floats, or the labels are neither.
        ShapeError: When called, the shapes do not fit.
    """
    checks.whole("calibration_error bins", bins)
    ignore = ignored_label("calibration_error ignore", ignore)

    def per_example(logits: jax.Array, labels: jax.Array) -> Confidences:
        rows, truth = read_classes(logits, labels, ignore=ignore)
        confidence = jnp.where(truth == UNKNOWN, jnp.nan, jax.nn.softmax(rows).max(-1))
        return confidence, predict_class(rows) == truth, truth != IGNORED

    def reduce(statistics: Confidences, weights: jax.Array) -> jax.Array:
        confidence, right, counts = statistics
        each = jnp.where(counts, spread(weights, confidence), 0)  # (n, ...)
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
