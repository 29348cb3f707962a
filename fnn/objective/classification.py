"""Losses of classification: cross-entropies, divergences and margins."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.objective.loss import loss
from fnn.objective.metrics.per_example import accuracy
from fnn.objective.targets import (
    at_least_0,
    class_indices,
    class_probabilities,
    class_weights,
    expect_array,
    expect_floats,
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
    arXiv:1512.00567]. A label out of range, or probabilities that do not sum to 1 or are negative,
    make the loss and its gradient NaN. Computed in float32 at least.

    Args:
        logits: (..., classes).
        labels: Integers (...) with 0 <= label < classes, or probabilities (..., classes).
        label_smoothing: Share s of the uniform distribution in the target, in [0, 1].

    Raises:
        ConfigError: `label_smoothing` is outside of [0, 1].
        DTypeError: The logits are not floats, or the labels are neither.
        ShapeError: The shapes do not fit, or there is only one class; nothing is broadcast.
    """
    smoothing = checks.number("cross_entropy label_smoothing", label_smoothing, "[0, 1]")
    if getattr(labels, "ndim", 0) == getattr(logits, "ndim", 0):
        truth, known = class_probabilities(logits, labels)
        z = logits.astype(truth.dtype)
        share = trees.knob(smoothing, z)
        q = (1 - share) * truth + share / z.shape[-1]  # (..., classes)
        total = (1 - share) * truth.sum(-1) + share
        shifted, sum_exp = _normalizer(z)
        values = total * jnp.log(sum_exp) - _expectation(q, shifted)
    else:
        indices, known = class_indices(logits, labels)
        z = logits.astype(trees.wide(logits))
        share = jnp.asarray(smoothing, z.dtype)
        values = _cross_entropy_of_labels(z, indices, share)
    # A factor of NaN makes the gradient NaN too, since softmax is nowhere exactly 0 in all classes.
    return values * nan_unless(known, z.dtype)


@jax.custom_jvp
def _cross_entropy_of_labels(z: jax.Array, labels: jax.Array, share: jax.Array) -> PerExample:
    """Return cross_entropy for labels (...) that are int32 and in range.

    Neither the value nor the gradient needs an array of the size of the logits, but the gradient
    itself. Autodiff would keep softmax and one-hot rows for the way back.
    """
    shifted, sum_exp = _normalizer(z)

    def at_label() -> jax.Array:
        index = labels[..., None]
        label_logit = jnp.take_along_axis(z, index, -1, mode="clip")
        return (label_logit - z.max(-1, keepdims=True)).squeeze(-1)

    def smoothed() -> jax.Array:
        return _expectation(_smoothed_rows(z, labels, share), shifted)

    # The sum over all classes is one more pass over the logits, which most runs do not need.
    return jnp.log(sum_exp) - jax.lax.cond(share == 0, at_label, smoothed)


@_cross_entropy_of_labels.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    z, labels, share = primals
    z_dot, _, share_dot = tangents
    shifted, sum_exp = _normalizer(z)
    p = jnp.exp(shifted) / sum_exp[..., None]
    q = _smoothed_rows(z, labels, share)
    slope = ((p - q) * z_dot).sum(-1)
    # The loss is linear in the smoothing.
    is_label = jax.nn.one_hot(labels, z.shape[-1], dtype=bool)
    by_share = _expectation(is_label.astype(z.dtype), shifted) - _finite_mean(shifted)
    return _cross_entropy_of_labels(z, labels, share), slope + by_share * share_dot


def _normalizer(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the logits less the largest, and Σ exp of them."""
    # NumPy would warn of inf - inf.
    z = jnp.asarray(z)
    shifted = z - jax.lax.stop_gradient(z.max(-1, keepdims=True))
    return shifted, jnp.exp(shifted).sum(-1)


def _smoothed_rows(z: jax.Array, labels: jax.Array, share: jax.Array) -> jax.Array:
    """Return q = (1 - s) truth + s / classes, (..., classes)."""
    classes = z.shape[-1]
    is_label = jax.nn.one_hot(labels, classes, dtype=bool)
    return (1 - share) * is_label.astype(z.dtype) + share / classes


def _finite_mean(z: jax.Array) -> jax.Array:
    """Return the mean over the classes with logits of -inf as 0."""
    return jnp.where(jnp.isneginf(z), 0, z).mean(-1)


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
    # The guard is applied to the value too, as XLA takes 0 times NaN for 0 where q is one-hot.
    return -_expectation(truth, log_p * guard[..., None]) * guard


# One compiled loop wherever it is called from, so that labels and their one-hot rows give the same
# bits.
@jax.jit
def _expectation(q: jax.Array, log_p: jax.Array) -> jax.Array:
    """Return Σ q log p, where a class with q = 0 and a logit of -inf adds 0, as 0 log 0 = 0."""
    excluded = (q == 0) & jnp.isneginf(log_p)
    return (q * jnp.where(excluded, 0, log_p)).sum(-1)


@loss()
def kl_divergence(logits: Logits, probabilities: Probabilities) -> PerExample:
    """Kullback-Leibler divergence, Σ_c q_c (log q_c - log softmax(logits)_c), in nats.

    It is 0 where the two agree, never negative, and has the gradient of cross_entropy by the
    logits. A class that both exclude, q_c = 0 and a logit of -inf, adds 0. Rows of q that do not
    sum to 1 or have a negative entry make the loss and its gradient NaN [Kullback & Leibler 1951,
    doi:10.1214/aoms/1177729694].

    Args:
        logits: (..., classes); log-probabilities are logits too.
        probabilities: The true distribution q, (..., classes).

    Raises:
        DTypeError: An argument does not hold floats.
        ShapeError: The shapes differ.
    """
    expect_floats("logits", logits)
    if expect_array("targets", probabilities).shape != logits.shape:
        expected = f"probabilities of shape {logits.shape}"
        advice = "for labels use cross_entropy"
        raise ShapeError(
            "targets",
            expected,
            probabilities.shape,
            advice,
        )
    q, known = class_probabilities(logits, probabilities)
    shifted, sum_exp = _normalizer(logits.astype(q.dtype))
    excluded = (q == 0) & jnp.isneginf(shifted)
    # xlogy(q, q) is 0 at q = 0, where q log q would be NaN.
    relative = (xlogy(q, q) - q * jnp.where(excluded, 0, shifted)).sum(-1)
    divergence = relative + q.sum(-1) * jnp.log(sum_exp)
    return at_least_0(divergence) * nan_unless(known, q.dtype)


@loss()
def binary_cross_entropy(
    logits: Features,
    targets: jax.Array,
    *,
    label_smoothing: Number = 0.0,
    pos_weight: Number | Sequence[Number] = 1.0,
) -> PerExample:
    """Sigmoid cross-entropy, -w q log σ(z) - (1 - q) log σ(-z), averaged over an example's logits.

    q = (1 - s) target + s / 2. A target outside of [0, 1] makes the loss and its gradient NaN.

    Args:
        logits: z (batch, ...), each for a separate yes-or-no question.
        targets: Of the shape of the logits: 0 or 1 in any dtype, or probabilities.
        label_smoothing: Share s of the uniform distribution in the target, in [0, 1].
        pos_weight: Weight w >= 0 of the answer yes, such as the number of no for each yes in the
            data; one for all logits, or one for each entry of their last axis.

    Raises:
        ConfigError: `label_smoothing` is outside of [0, 1], or a weight is negative.
        DTypeError: The logits are not floats.
        ShapeError: The shapes differ, or there is not one weight for each entry of the last axis.
    """
    smoothing = checks.number("binary_cross_entropy label_smoothing", label_smoothing, "[0, 1]")
    z, truth = expect_pair(logits, targets, allow_integers=True)
    weight = _pos_weight(pos_weight, z)
    guard = nan_unless((truth >= 0) & (truth <= 1), z.dtype)  # (batch, ...)
    z = z * guard
    share = trees.knob(smoothing, z)
    q = (1 - share) * truth + share / 2
    # -log σ(z) = max(0, -z) + r and -log σ(-z) = max(0, z) + r with r = log(1 + exp(-|z|)), so a
    # sure, right answer has a tiny loss, not 0. A selection by one condition gives z = 0 the slope
    # of the sum.
    is_negative = z < 0
    rest = jnp.log1p(jnp.exp(jnp.where(is_negative, z, -z)))
    yes = weight * (q * rest + _product(q, jnp.where(is_negative, -z, 0)))
    no = (1 - q) * rest + _product(1 - q, jnp.where(is_negative, 0, z))
    return mean_per_example((yes + no) * guard)


def _product(q: jax.Array, surprise: jax.Array) -> jax.Array:
    """Return q times a surprise, which is 0 where q is 0 and the surprise infinite."""
    return q * jnp.where((q == 0) & jnp.isinf(surprise), 0, surprise)


def _pos_weight(weight: Any, z: jax.Array) -> Any:
    """Return the weight of yes: a number, or an array that fits the last axis of the logits."""
    where = "binary_cross_entropy pos_weight"
    is_sequence = isinstance(weight, Sequence) and not isinstance(weight, str)
    if not is_sequence and np.ndim(weight) == 0:
        return trees.knob(checks.number(where, weight, "[0, inf)"), z)
    table = class_weights(where, weight, z.dtype)
    if z.shape[-1:] != table.shape or z.ndim < 2:
        raise ShapeError(
            where,
            f"one number, or {z.shape[1:][-1:]}",
            table.shape,
            "give one for each entry of the last axis",
        )
    return jnp.broadcast_to(table, z.shape)


@loss()
def binary_focal(
    logits: Features,
    targets: jax.Array,
    *,
    gamma: Number = 2.0,
    alpha: Number | None = 0.25,
) -> PerExample:
    """Sigmoid focal loss, -α_t (1 - p_t)^γ log p_t, averaged over an example's logits.

    p_t is σ(z) for a target of 1 and 1 - σ(z) for 0, and α_t is α and 1 - α; for targets between, p
    and α are mixed and log p_t is that of binary_cross_entropy. A target outside of [0, 1] makes
    the loss and its gradient NaN [Lin et al. 2017, arXiv:1708.02002].

    Args:
        logits: z (batch, ...), each for a separate yes-or-no question.
        targets: Of the shape of the logits: 0 or 1 in any dtype, or probabilities.
        gamma: Exponent γ >= 0; 2 is the choice of the paper.
        alpha: Weight α of the answer yes, in [0, 1]; None for no weights.

    Raises:
        ConfigError: `gamma` is negative, or `alpha` outside of [0, 1].
        DTypeError: The logits are not floats.
        ShapeError: The shapes differ.
    """
    checks.number("binary_focal gamma", gamma, "[0, inf)")
    if alpha is not None:
        checks.number("binary_focal alpha", alpha, "[0, 1]")
    z, truth = expect_pair(logits, targets, allow_integers=True)
    guard = nan_unless((truth >= 0) & (truth <= 1), z.dtype)  # (batch, ...)
    z = z * guard
    log_yes, log_no = jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)
    surprise = _product(truth, -log_yes) + _product(1 - truth, -log_no)
    # log(1 - p_t) as a sum of logarithms, so that the power has a slope where p_t rounds to 1. At
    # z = ±inf p_t is 0 or 1, and its power has no slope.
    is_sure = jnp.isinf(z)
    finite = jnp.where(is_sure, 0, z)
    log_rest = jnp.logaddexp(
        jnp.log1p(-truth) + jax.nn.log_sigmoid(finite),
        jnp.log(truth) + jax.nn.log_sigmoid(-finite),
    )
    exponent = trees.knob(gamma, z)
    modulation = jnp.where(is_sure, 1, jnp.exp(exponent * log_rest))
    values = modulation * surprise
    if alpha is not None:
        share = trees.knob(alpha, z)
        values = values * (share * truth + (1 - share) * (1 - truth))
    return mean_per_example(values * guard)


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
    guard = nan_unless(known, trees.wide(logits))
    log_p = jax.nn.log_softmax(logits.astype(guard.dtype) * guard[..., None])
    surprise = -jnp.where(is_label, log_p, 0).sum(-1)  # -log p at the label, (...)
    # log(1 - p) is the sum over the others, so that the power has a slope even where p rounds to 1.
    log_others = jnp.where(is_label, -jnp.inf, log_p)
    largest = jax.lax.stop_gradient(log_others.max(-1))
    is_certain = jnp.isneginf(largest)
    offset = jnp.where(is_certain, 0, largest)
    rest = jnp.exp(log_others - offset[..., None]).sum(-1)
    log_rest = jnp.log(jnp.where(is_certain, 1, rest)) + offset
    # Where p is exactly 0 or 1 (logits of -inf), (1 - p)^γ times log p has the value and the slope
    # of log p: the power is 1 or its factor 0.
    is_sure = is_certain | jnp.isposinf(surprise)
    modulation = jnp.where(is_sure, 1, jnp.exp(trees.knob(gamma, log_p) * log_rest))
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
