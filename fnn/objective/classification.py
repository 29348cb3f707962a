"""Losses of classification, and divergences of distributions."""

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.objective.loss import loss
from fnn.objective.metrics.per_example import accuracy
from fnn.objective.targets import alarm, distribution, one_hot, paired, per_example
from fnn.types import Features, Labels, Logits, Number, PerExample, Probabilities

LOG_TOLERANCE = (
    5e-2  # how far log Σ p may be from 0: bfloat16 rounds a log-probability of -7 by 0.016
)


@loss(classes=True, probabilities=True, metric=("accuracy", accuracy))
def cross_entropy(
    logits: Logits, labels: Labels | Probabilities, *, label_smoothing: Number = 0.0
) -> PerExample:
    """The surprise at the truth, -Σ_c q_c log softmax(logits)_c, where q = (1 - s) truth + s / classes.

    logits (..., classes); labels (...) as integers, or (..., classes) as probabilities; float32 inside at least; nats.
    A label outside 0 <= label < classes, or probabilities that do not sum to 1, make the loss and its gradient NaN.
    ShapeError or DTypeError where the two do not fit, for nothing is broadcast. Smoothing s of Szegedy et al. 2016,
    arXiv:1512.00567.
    """
    smoothing = checks.number("cross_entropy label_smoothing", label_smoothing, "[0, 1]")
    truth, known = distribution(logits, labels)
    warning = alarm(known, truth.dtype)
    log_p = jax.nn.log_softmax(logits.astype(truth.dtype) * warning[..., None])
    share = trees.knob(smoothing, log_p)
    return _surprise((1 - share) * truth + share / logits.shape[-1], log_p, warning)


@loss(classes=True, metric=("accuracy", accuracy))
def nll(log_probabilities: Logits, labels: Labels | Probabilities) -> PerExample:
    """The surprise at the truth, -Σ_c truth_c log p_c, of a network that ends in log-probabilities.

    log_probabilities (..., classes); labels (...) as integers, or (..., classes) as probabilities. Targets as for
    cross_entropy, which is the one for logits: rows whose probabilities do not sum to 1 make the loss and its gradient
    NaN. ShapeError or DTypeError where the two do not fit.
    """
    truth, known = distribution(log_probabilities, labels)
    log_p = log_probabilities.astype(truth.dtype)
    total = jax.nn.logsumexp(jax.lax.stop_gradient(log_p), axis=-1)
    warning = alarm(known & (jnp.abs(total) < LOG_TOLERANCE), truth.dtype)
    return _surprise(truth, log_p * warning[..., None], warning)


@loss()
def binary_cross_entropy(
    logits: Features, targets: jax.Array, *, label_smoothing: Number = 0.0
) -> PerExample:
    """The surprise at answers of yes or no, -q log σ(z) - (1 - q) log σ(-z), where q = (1 - s) target + s / 2.

    logits z (batch, ...), each a question of its own; targets, equal in shape: 0 or 1 of any dtype, or probabilities.
    The mean over an example's questions. A target outside [0, 1] makes the loss and its gradient NaN; ShapeError or
    DTypeError where the two do not fit.
    """
    smoothing = checks.number("binary_cross_entropy label_smoothing", label_smoothing, "[0, 1]")
    z, truth = paired(logits, targets, whole=True)
    warning = alarm((truth >= 0) & (truth <= 1), z.dtype)
    z, share = z * warning, trees.knob(smoothing, z)
    q = (1 - share) * truth + share / 2
    return per_example(-(q * jax.nn.log_sigmoid(z) + (1 - q) * jax.nn.log_sigmoid(-z)) * warning)


@loss(classes=True, metric=("accuracy", accuracy))
def focal(logits: Logits, labels: Labels, *, gamma: Number = 2.0) -> PerExample:
    """The surprise at the truth where it is badly guessed, -(1 - p)^γ log p, where p = softmax(logits) at the label.

    logits (..., classes) of two classes or more; labels (...) as integers, a wrong one NaN as in cross_entropy, which
    this is at γ = 0. For its balance α see class_weighted. ConfigError unless γ >= 0; ShapeError or DTypeError where
    the two do not fit [Lin et al. 2017, arXiv:1708.02002, with the softmax of sec. 3].
    """
    checks.number("focal gamma", gamma, "[0, inf)")
    own, known = one_hot(logits, labels)
    if logits.shape[-1] < 2:
        raise ShapeError(
            "logits", "two classes or more", logits.shape, "use binary_cross_entropy for yes or no"
        )
    warning = alarm(known, trees.wide(logits))
    log_p = jax.nn.log_softmax(logits.astype(warning.dtype) * warning[..., None])
    surprise = -jnp.where(own, log_p, 0).sum(-1)
    # log(1 - p) is the sum over the others, so that the power has a slope even where p rounds to 1.
    log_rest = jax.nn.logsumexp(jnp.where(own, -jnp.inf, log_p), axis=-1)
    return jnp.exp(trees.knob(gamma, log_p) * log_rest) * surprise * warning


@loss(classes=True, metric=("accuracy", accuracy))
def hinge(scores: Logits, labels: Labels, *, margin: Number = 1.0) -> PerExample:
    """What the wrong scores lack to stay a margin below the true one, Σ_{j≠y} max(0, s_j - s_y + margin).

    scores s (..., classes); labels y (...) as integers, a wrong one NaN as in cross_entropy. ConfigError unless
    margin >= 0; ShapeError or DTypeError where the two do not fit [Weston & Watkins 1999, as in CS231n].
    """
    checks.number("hinge margin", margin, "[0, inf)")
    own, known = one_hot(scores, labels)
    warning = alarm(known, trees.wide(scores))
    s = scores.astype(warning.dtype) * warning[..., None]
    true = jnp.where(own, s, 0).sum(-1, keepdims=True)
    return jnp.where(own, 0, jax.nn.relu(s - true + trees.knob(margin, s))).sum(-1) * warning


def _surprise(q: jax.Array, log_p: jax.Array, warning: jax.Array) -> PerExample:
    """-Σ q log p, where a class ruled out by a logit of -inf costs nothing: 0 log 0 = 0."""
    ruled_out = (q == 0) & jnp.isneginf(log_p)
    # The alarm is on the way out too, as XLA takes 0 times NaN for 0 where q is one-hot.
    return -(q * jnp.where(ruled_out, 0, log_p)).sum(-1) * warning


@loss()
def kl_divergence(logits: Logits, probabilities: Probabilities) -> PerExample:
    """How far softmax(logits) is from the truth q, Σ_c q_c (log q_c - log softmax(logits)_c), in nats.

    logits (..., classes), where log-probabilities are logits too; probabilities q of the same shape. Rows that do not
    sum to 1 make the loss and its gradient NaN. By the logits its gradient is that of cross_entropy; it is 0 where they
    agree. ShapeError or DTypeError where the two do not fit [Kullback & Leibler 1951, doi:10.1214/aoms/1177729694].
    """
    if probabilities.shape != logits.shape:
        raise ShapeError(
            "targets",
            f"probabilities of shape {logits.shape}",
            probabilities.shape,
            "for labels use cross_entropy",
        )
    q, known = distribution(logits, probabilities)
    warning = alarm(known, q.dtype)
    log_p = jax.nn.log_softmax(logits.astype(q.dtype) * warning[..., None])
    return (xlogy(q, q) - q * log_p).sum(-1) * warning
