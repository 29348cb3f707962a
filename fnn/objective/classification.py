"""Losses of classification: cross-entropies, divergences and margins."""

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.objective.loss import loss
from fnn.objective.metrics.per_example import accuracy
from fnn.objective.targets import (
    class_probabilities,
    expect_pair,
    mean_per_example,
    nan_unless,
    one_hot,
)
from fnn.types import Features, Labels, Logits, Number, PerExample, Probabilities

# Largest |log Σ p| of log-probabilities: bfloat16 rounds a log-probability of -7 by 0.016.
LOG_TOLERANCE = 5e-2


@loss(classes=True, probabilities=True, metric=("accuracy", accuracy))
def cross_entropy(
    logits: Logits,
    labels: Labels | Probabilities,
    *,
    label_smoothing: Number = 0.0,
) -> PerExample:
    """Softmax cross-entropy, -Σ_c q_c log softmax(logits)_c, in nats.

    q = (1 - s) truth + s / classes, with the label smoothing s of [Szegedy et al. 2016,
    arXiv:1512.00567]. A label out of range, or probabilities that do not sum to 1, make the loss
    and its gradient NaN. Computed in float32 at least.

    Args:
        logits: (..., classes).
        labels: Integers (...) with 0 <= label < classes, or probabilities (..., classes).
        label_smoothing: Share s of the uniform distribution in the target, in [0, 1].

    Raises:
        ConfigError: `label_smoothing` is outside of [0, 1].
        DTypeError: The logits are not floats, or the labels are neither.
        ShapeError: The shapes do not fit; nothing is broadcast.
    """
    smoothing = checks.number("cross_entropy label_smoothing", label_smoothing, "[0, 1]")
    truth, known = class_probabilities(logits, labels)
    guard = nan_unless(known, truth.dtype)  # (...)
    log_p = jax.nn.log_softmax(logits.astype(truth.dtype) * guard[..., None])
    share = trees.knob(smoothing, log_p)
    q = (1 - share) * truth + share / logits.shape[-1]  # (..., classes)
    return _cross_entropy(q, log_p, guard)


@loss(classes=True, metric=("accuracy", accuracy))
def nll(log_probabilities: Logits, labels: Labels | Probabilities) -> PerExample:
    """Negative log-likelihood, -Σ_c truth_c log p_c, of a network that returns log-probabilities.

    Rows of log-probabilities that are not normalized make the loss and its gradient NaN, as wrong
    labels do. For logits use cross_entropy.

    Args:
        log_probabilities: (..., classes), normalized, as of log_softmax.
        labels: Integers (...) with 0 <= label < classes, or probabilities (..., classes).

    Raises:
        DTypeError: The log-probabilities are not floats, or the labels are neither.
        ShapeError: The shapes do not fit; nothing is broadcast.
    """
    truth, known = class_probabilities(log_probabilities, labels)
    log_p = log_probabilities.astype(truth.dtype)
    # log Σ p is a check only, so that no gradient flows through it.
    log_total = jax.nn.logsumexp(jax.lax.stop_gradient(log_p), axis=-1)
    guard = nan_unless(known & (jnp.abs(log_total) < LOG_TOLERANCE), truth.dtype)
    return _cross_entropy(truth, log_p * guard[..., None], guard)


def _cross_entropy(q: jax.Array, log_p: jax.Array, guard: jax.Array) -> PerExample:
    """Return -Σ q log p, where a class with q = 0 and a logit of -inf adds 0, as 0 log 0 = 0."""
    excluded = (q == 0) & jnp.isneginf(log_p)
    # The guard is applied to the value too, as XLA takes 0 times NaN for 0 where q is one-hot.
    return -(q * jnp.where(excluded, 0, log_p)).sum(-1) * guard


@loss()
def kl_divergence(logits: Logits, probabilities: Probabilities) -> PerExample:
    """Kullback-Leibler divergence, Σ_c q_c (log q_c - log softmax(logits)_c), in nats.

    It is 0 where the two agree, and has the gradient of cross_entropy by the logits. Rows of q that
    do not sum to 1 make the loss and its gradient NaN [Kullback & Leibler 1951,
    doi:10.1214/aoms/1177729694].

    Args:
        logits: (..., classes); log-probabilities are logits too.
        probabilities: The true distribution q, (..., classes).

    Raises:
        DTypeError: An argument does not hold floats.
        ShapeError: The shapes differ.
    """
    if probabilities.shape != logits.shape:
        expected = f"probabilities of shape {logits.shape}"
        advice = "for labels use cross_entropy"
        raise ShapeError(
            "targets",
            expected,
            probabilities.shape,
            advice,
        )
    q, known = class_probabilities(logits, probabilities)
    guard = nan_unless(known, q.dtype)
    log_p = jax.nn.log_softmax(logits.astype(q.dtype) * guard[..., None])
    # xlogy(q, q) is 0 at q = 0, where q log q would be NaN.
    return (xlogy(q, q) - q * log_p).sum(-1) * guard


@loss()
def binary_cross_entropy(
    logits: Features,
    targets: jax.Array,
    *,
    label_smoothing: Number = 0.0,
) -> PerExample:
    """Sigmoid cross-entropy, -q log σ(z) - (1 - q) log σ(-z), averaged over an example's logits.

    q = (1 - s) target + s / 2. A target outside of [0, 1] makes the loss and its gradient NaN.

    Args:
        logits: z (batch, ...), each for a separate yes-or-no question.
        targets: Of the shape of the logits: 0 or 1 in any dtype, or probabilities.
        label_smoothing: Share s of the uniform distribution in the target, in [0, 1].

    Raises:
        ConfigError: `label_smoothing` is outside of [0, 1].
        DTypeError: The logits are not floats.
        ShapeError: The shapes differ.
    """
    smoothing = checks.number("binary_cross_entropy label_smoothing", label_smoothing, "[0, 1]")
    z, truth = expect_pair(logits, targets, allow_integers=True)
    guard = nan_unless((truth >= 0) & (truth <= 1), z.dtype)  # (batch, ...)
    z = z * guard
    share = trees.knob(smoothing, z)
    q = (1 - share) * truth + share / 2
    # log σ(-z) is log(1 - σ(z)) without its rounding: a sure, right answer has a tiny loss, not 0.
    log_likelihood = q * jax.nn.log_sigmoid(z) + (1 - q) * jax.nn.log_sigmoid(-z)
    return mean_per_example(-log_likelihood * guard)


@loss(classes=True, metric=("accuracy", accuracy))
def focal(logits: Logits, labels: Labels, *, gamma: Number = 2.0) -> PerExample:
    """Focal loss, -(1 - p)^γ log p, where p = softmax(logits) at the label.

    It weighs down examples that are classified well; γ = 0 is cross_entropy. A label out of range
    makes it NaN. For the balance α of the paper see class_weighted [Lin et al. 2017,
    arXiv:1708.02002, with the softmax of sec. 3].

    Args:
        logits: (..., classes), of two classes or more.
        labels: Integers (...) with 0 <= label < classes.
        gamma: Exponent γ >= 0; 2 is the choice of the paper.

    Raises:
        ConfigError: `gamma` is negative.
        DTypeError: The logits are not floats, or the labels not integers.
        ShapeError: The shapes do not fit, or there is only one class.
    """
    checks.number("focal gamma", gamma, "[0, inf)")
    is_label, known = one_hot(logits, labels)
    if logits.shape[-1] < 2:
        advice = "use binary_cross_entropy for yes or no"
        raise ShapeError(
            "logits",
            "two classes or more",
            logits.shape,
            advice,
        )
    guard = nan_unless(known, trees.wide(logits))
    log_p = jax.nn.log_softmax(logits.astype(guard.dtype) * guard[..., None])
    surprise = -jnp.where(is_label, log_p, 0).sum(-1)  # -log p at the label, (...)
    # log(1 - p) is the sum over the others, so that the power has a slope even where p rounds to 1.
    log_rest = jax.nn.logsumexp(jnp.where(is_label, -jnp.inf, log_p), axis=-1)
    modulation = jnp.exp(trees.knob(gamma, log_p) * log_rest)
    return modulation * surprise * guard


@loss(classes=True, metric=("accuracy", accuracy))
def hinge(scores: Logits, labels: Labels, *, margin: Number = 1.0) -> PerExample:
    """Multiclass hinge loss, Σ_{j≠y} max(0, s_j - s_y + margin).

    It is that of [Weston & Watkins 1999, as in CS231n]. A label out of range makes it NaN.

    Args:
        scores: s (..., classes).
        labels: Integers y (...) with 0 <= label < classes.
        margin: Distance by which the true score should exceed the others, >= 0.

    Raises:
        ConfigError: `margin` is negative.
        DTypeError: The scores are not floats, or the labels not integers.
        ShapeError: The shapes do not fit.
    """
    checks.number("hinge margin", margin, "[0, inf)")
    is_label, known = one_hot(scores, labels)
    guard = nan_unless(known, trees.wide(scores))
    s = scores.astype(guard.dtype) * guard[..., None]
    true_score = jnp.where(is_label, s, 0).sum(-1, keepdims=True)  # (..., 1)
    violations = jax.nn.relu(s - true_score + trees.knob(margin, s))  # (..., classes)
    return jnp.where(is_label, 0, violations).sum(-1) * guard
