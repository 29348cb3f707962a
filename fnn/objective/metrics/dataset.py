"""What is reported of a whole set and is no mean over it: rankings, calibration, perplexity, explained variance."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.objective.classification import cross_entropy
from fnn.objective.metrics.per_example import expect_labels, spread
from fnn.objective.targets import paired
from fnn.objective.weights import as_weighted
from fnn.types import LossFunction, Metric, Weighted
from fnn.values import maker

Pair = tuple[jax.Array, jax.Array]


@maker
def roc_auc() -> Metric:
    """The chance that an example of class 1 is scored above one of class 0, a tie counting half.

    It is the area under the ROC curve, Mann and Whitney's U / (n₁ n₀), exact. outputs: scores (n,) or (n, 1), or logits
    (n, 2), whose difference is the score; targets: 0 or 1, (n,) or like the outputs. NaN where one class is missing,
    for a NaN among the scores and for another target, unless its weight is 0. ShapeError where the two do not fit.
    """

    def look(outputs: jax.Array, labels: jax.Array) -> Pair:
        checks.floating("outputs", outputs)
        if outputs.shape[1:] not in ((), (1,), (2,)):
            raise ShapeError(
                "outputs", "scores (n,) or logits (n, 2)", outputs.shape, "give a score an example"
            )
        if labels.shape not in (outputs.shape[:1], outputs.shape):
            raise ShapeError(
                "labels",
                f"one an example, {outputs.shape[:1]}",
                labels.shape,
                "give 0 or 1 for each",
            )
        wide = outputs.astype(trees.wide(outputs))
        scores = wide[:, 1] - wide[:, 0] if outputs.shape[1:] == (2,) else wide.reshape(-1)
        return scores, (labels if labels.ndim == 1 else labels[:, -1]).astype(scores.dtype)

    def finish(seen: Pair, weights: jax.Array) -> jax.Array:
        scores, labels = seen
        each = spread(weights, scores)
        positive, negative = (jnp.where(labels == label, each, 0) for label in (1, 0))
        wrong = jnp.isnan(scores) | ((labels != 0) & (labels != 1))
        scores = jnp.where(each == 0, 0, scores)
        order = jnp.argsort(scores)
        ranked, positive, negative = scores[order], positive[order], negative[order]
        lower = jnp.pad(
            jnp.cumsum(negative), (1, 0)
        )  # lower[i]: how many of class 0 are among the i lowest
        step = ranked[1:] != ranked[:-1]
        first, last = (
            jnp.pad(step, (1, 0), constant_values=True),
            jnp.pad(step, (0, 1), constant_values=True),
        )
        below = jax.lax.cummax(jnp.where(first, lower[:-1], 0))
        not_above = jax.lax.cummin(jnp.where(last, lower[1:], jnp.inf), reverse=True)
        area = (positive * (below + not_above) / (2 * negative.sum())).sum() / positive.sum()
        return area * jnp.where((wrong & (each != 0)).any(), jnp.nan, 1)

    return Metric(look, finish)


@maker
def calibration_error(*, bins: int = 15) -> Metric:
    """How far confidence is from accuracy, Σ_b |B_b| / n |accuracy(B_b) - confidence(B_b)|, called ECE.

    The confidence is the largest probability, and bin b holds those in (b / bins, (b + 1) / bins]. outputs: logits
    (n, ..., classes); targets: labels (n, ...) as integers, or probabilities. ConfigError unless bins >= 1; ShapeError
    or DTypeError where the two do not fit [Guo et al. 2017, arXiv:1706.04599].
    """
    checks.whole("calibration_error bins", bins)

    def look(logits: jax.Array, labels: jax.Array) -> Pair:
        truth = expect_labels(logits, labels)
        guess = logits.argmax(-1)
        confidence = jax.nn.softmax(logits.astype(trees.wide(logits))).max(-1)
        return confidence, guess == truth.astype(guess.dtype)

    def finish(seen: Pair, weights: jax.Array) -> jax.Array:
        confidence, right = seen
        each = spread(weights, confidence)
        place = (jnp.ceil(confidence * bins) - 1).astype(jnp.int32).clip(0, bins - 1)
        gaps = jnp.where(each == 0, 0, each * (right.astype(confidence.dtype) - confidence))
        return jnp.abs(jnp.zeros(bins, gaps.dtype).at[place].add(gaps)).sum() / each.sum()

    return Metric(look, finish)


@maker
def perplexity(loss: LossFunction = cross_entropy) -> Metric:
    """The exponential of the mean loss over all places, exp(Σ w l / Σ w): among how many it is as if to guess.

    outputs and targets as the loss takes them: for cross_entropy logits (n, ..., classes) and labels (n, ...). A loss
    that weighs its values is weighed, as in perplexity(ignoring(cross_entropy, label)). NaN where nothing counts.
    """

    def look(outputs: jax.Array, targets: jax.Array) -> Weighted:
        return as_weighted(loss(outputs, targets))

    def finish(seen: Weighted, weights: jax.Array) -> jax.Array:
        each = spread(weights, seen.values) * seen.weights.astype(seen.values.dtype)
        return jnp.exp(jnp.where(each == 0, 0, each * seen.values).sum() / each.sum())

    return Metric(look, finish)


@maker
def r2() -> Metric:
    """The share of the targets' variance that the outputs explain, 1 - Σ w (t - y)² / Σ w (t - mean t)².

    outputs and targets (n, ...), equal in shape; the mean over all that an example has. Where the targets do not vary,
    1 if all outputs are right, else 0. ShapeError or DTypeError where the two do not fit.
    """

    def finish(seen: Pair, weights: jax.Array) -> jax.Array:
        outputs, targets = seen
        each = spread(weights, targets)

        def total(values: jax.Array) -> jax.Array:
            return jnp.where(each == 0, 0, each * values).sum(0, keepdims=True)

        # Measured from one of them, so that equal targets have variance 0, not what rounding leaves of their mean.
        moved = targets - targets[jnp.argmax(weights.astype(targets.dtype) != 0)][None]
        residual = total(jnp.square(targets - outputs))
        variance = total(jnp.square(moved - total(moved) / each.sum(0, keepdims=True)))
        share = 1 - residual / jnp.where(variance == 0, 1, variance)
        return jnp.where(variance == 0, (residual == 0).astype(share.dtype), share).mean()

    return Metric(paired, finish)
