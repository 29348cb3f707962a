"""Metrics of a whole data set that are not means: calibration, perplexity and R²."""

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.objective.classification import cross_entropy
from fnn.objective.metrics.bins import BINNINGS, bin_indices, bin_sums
from fnn.objective.metrics.labels import IGNORED, UNKNOWN, predict_class, read_classes, spread
from fnn.objective.targets import expect_pair, ignored_label
from fnn.objective.weights import as_weighted
from fnn.types import LossFunction, Metric, Weighted
from fnn.values import maker

NORMS = ("mean", "max")
Pair = tuple[Array, Array]
# Confidence, whether the prediction is right, and whether the example counts, each (n, ...).
Confidences = tuple[Array, Array, Array]


@maker
def calibration_error(
    *,
    bins: int = 15,
    norm: str = "mean",
    binning: str = "width",
    ignore: int | None = None,
) -> Metric:
    """Expected calibration error (ECE), Σ_b |B_b| / n |accuracy(B_b) - confidence(B_b)|.

    The confidence is the largest probability; bin b holds those in (b / bins, (b + 1) / bins]. A
    confidence of 1 is therefore in the last bin. The metric takes logits (n, ..., classes) and
    integer labels (n, ...) or probabilities; a network with one output, (n, ..., 1) or (n,), has
    two classes. A label out of range makes it NaN, unless the weight is 0
    [Guo et al. 2017, arXiv:1706.04599].

    Args:
        bins: Number of bins, at least 1; 15 is that of the paper.
        norm: "mean" for the mean over examples; "max" for the largest difference of a bin, the
            maximum calibration error. A bin of few examples can decide the latter.
        binning: "width" for bins of equal width; "mass" for bins of equally many examples, the
            adaptive calibration error [Nixon et al. 2019, arXiv:1904.01685]. Equal confidences are
            then in one bin.
        ignore: Label that does not count, such as 255 for pixels without a class.

    Raises:
        ConfigError: `bins` is not a whole number >= 1, `norm` or `binning` is not one of its
            values, or `ignore` is not a whole number.
        DTypeError: When called, the logits are not floats, or the labels are neither.
        ShapeError: When called, the shapes do not fit.
    """
    checks.whole("calibration_error bins", bins)
    checks.choice("calibration_error norm", norm, NORMS)
    checks.choice("calibration_error binning", binning, BINNINGS)
    ignore = ignored_label("calibration_error ignore", ignore)

    def per_example(logits: Array, labels: Array) -> Confidences:
        rows, truth = read_classes(logits, labels, ignore=ignore)
        probabilities = jax.nn.softmax(rows)  # (n, ..., classes)
        largest = probabilities.max(-1)
        # A label out of range has no accuracy, which NaN shows.
        is_unknown = truth == UNKNOWN
        confidence = jnp.where(is_unknown, jnp.nan, largest)
        is_right = predict_class(rows) == truth
        counts = truth != IGNORED
        return confidence, is_right, counts

    def reduce(
        statistics: Confidences,
        weights: Array,
    ) -> Array:
        confidence, is_right, counts = statistics
        spread_weights = spread(weights, confidence)
        each = jnp.where(counts, spread_weights, 0)  # (n, ...)
        index = bin_indices(confidence, each, bins, binning)
        # |B| (accuracy - confidence) is the sum of these gaps over the bin.
        right = is_right.astype(confidence.dtype)
        differences = right - confidence
        gaps = _weighted(each, differences)
        totals = bin_sums(index, gaps, bins)  # (bins,)
        if norm == "mean":
            return jnp.abs(totals).sum() / each.sum()
        sizes = bin_sums(index, each, bins)
        # An empty bin has the gap 0.
        return jnp.abs(totals / jnp.where(sizes == 0, 1, sizes)).max()

    return Metric(per_example, reduce, mode="min")


@maker
def perplexity(loss: LossFunction = cross_entropy) -> Metric:
    """Perplexity, exp(Σ w l / Σ w): the exponential of the mean loss over all positions.

    A uniform guess among k classes has the perplexity k. NaN if all weights are 0.

    Args:
        loss: A loss in nats; the metric takes its outputs and targets. If it returns weights, as
            perplexity(ignoring(cross_entropy, label)), they multiply those of the examples.
    """

    def per_example(outputs: Array, targets: Array) -> Weighted:
        values = loss(outputs, targets)
        return as_weighted(values)

    def reduce(
        statistics: Weighted,
        weights: Array,
    ) -> Array:
        values = statistics.values
        # Weights of the loss, such as 0 for positions without a target, multiply those of examples.
        loss_weights = statistics.weights.astype(values.dtype)
        each = spread(weights, values) * loss_weights
        total = _weighted(each, values).sum()
        mean = total / each.sum()
        return jnp.exp(mean)

    return Metric(per_example, reduce, mode="min")


@maker
def r2() -> Metric:
    """Coefficient of determination R², 1 - Σ w (t - y)² / Σ w (t - mean t)².

    The metric takes outputs and targets (n, ...) of equal shape and averages R² over the numbers of
    an example. If the targets do not vary, it is 1 if all outputs are right, else 0. ShapeError or
    DTypeError if the two do not fit.
    """

    def reduce(
        statistics: Pair,
        weights: Array,
    ) -> Array:
        outputs, targets = statistics
        each = spread(weights, targets)  # (n, ...)

        def total(values: Array) -> Array:
            """Sum over the examples by weight, (n, ...) -> (1, ...)."""
            weighted = _weighted(each, values)
            return weighted.sum(0, keepdims=True)

        # Measured from one of them, so that equal targets have variance 0 without a rounding error.
        has_weight = weights.astype(targets.dtype) != 0
        reference = jnp.argmax(has_weight)
        origin = targets[reference]
        moved = targets - origin[None]
        squares = jnp.square(targets - outputs)
        residual = total(squares)
        sum_of_weights = each.sum(0, keepdims=True)
        mean = total(moved) / sum_of_weights
        deviations = jnp.square(moved - mean)
        variance = total(deviations)
        is_constant = variance == 0
        # A divisor of 1, so that the share that is not chosen has a finite gradient.
        divisor = jnp.where(is_constant, 1, variance)
        share = 1 - residual / divisor
        is_exact = residual == 0
        constant_score = is_exact.astype(share.dtype)
        scores = jnp.where(is_constant, constant_score, share)
        return scores.mean()

    return Metric(expect_pair, reduce, mode="max")


def _weighted(each: Array, values: Array) -> Array:
    """Multiply values by weights; 0 for a weight of 0, also of a value that is NaN."""
    products = each * values
    # where, since padding may have a value of NaN.
    has_no_weight = each == 0
    return jnp.where(has_no_weight, 0, products)
