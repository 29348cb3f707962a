"""Decomposition of the uncertainty of predictions: within the members, and between them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import trees
from fnn.ensemble.logits import read_logits
from fnn.errors import ShapeError
from fnn.objective.metrics.labels import predict_class
from fnn.objective.targets import expect_floats
from fnn.types import PerExample


class Decomposition(NamedTuple):
    """The uncertainty of each example, total = aleatoric + epistemic.

    Attributes:
        total: Of the prediction of all members together, (n, ...).
        aleatoric: Mean over the members of the uncertainty that each states, (n, ...).
        epistemic: The rest, which comes from their differences, (n, ...), >= 0.
    """

    total: PerExample
    aleatoric: PerExample
    epistemic: PerExample


def entropy_decomposition(logits: Any) -> Decomposition:
    """Decompose the entropy of the mean prediction: H(mean p) = mean H(p) + mutual information.

    All in nats. The mutual information of class and member is Σ_m KL(p_m ‖ mean p) / M. It is 0 if
    all members agree. Each part is a sum of terms >= 0 in log space, therefore small ones are
    right too: there is no difference of large entropies [Depeweg et al. 2018, arXiv:1710.07283].

    Args:
        logits: (members, n, ..., classes); of one output (members, n, ..., 1), for two classes.
            Samples of `mc_dropout` are members.

    Raises:
        DTypeError: The logits are not floats, or are probabilities.
        ShapeError: There is no axis of members.
    """
    return _decompose_entropy(read_logits("entropy_decomposition", logits, members=True))


@jax.jit
def _decompose_entropy(z: Array) -> Decomposition:
    log_p = jax.nn.log_softmax(z)  # (members, n, ..., classes)
    log_mean = log_mean_exp(log_p)  # (n, ..., classes)
    aleatoric = entropy(log_p).mean(0)  # (n, ...)
    difference = log_p - log_mean[None]
    p = jnp.exp(log_p)
    # Σ p log (p / q) = Σ (p log (p / q) - p + q), and no term of the latter is negative. A
    # probability of 0 has a logarithm of -inf.
    own = jnp.where(p > 0, p * jnp.where(p > 0, difference, 0), 0)
    shift = jnp.where(log_mean > -jnp.inf, jnp.exp(log_mean), 0)[None]
    change = shift * jnp.expm1(jnp.where(p > 0, difference, -jnp.inf))
    terms = jax.nn.relu(own - change)
    # (members, n, ..., classes) -> (n, ...)
    epistemic = terms.sum(-1).mean(0)
    return Decomposition(aleatoric + epistemic, aleatoric, epistemic)


def variance_decomposition(means: Any, variances: Any = None) -> Decomposition:
    """Decompose the variance of a regression: total = mean variance + variance of the means.

    It is the variance of the mixture of the members' distributions. Networks without an output for
    the variance have no aleatoric part [Lakshminarayanan et al. 2017, arXiv:1612.01474].

    Args:
        means: Predictions of the members, (members, n, ...).
        variances: Variances that they predict, of the same shape, >= 0; None for none. A network
            trained by `objective.gaussian_nll` may return their logarithm.

    Raises:
        DTypeError: An array does not hold floats.
        ShapeError: There is no axis of members, or the shapes differ.
    """
    mean = _predictions("variance_decomposition means", means)
    epistemic = _variance(mean)
    if variances is None:
        return Decomposition(epistemic, jnp.zeros_like(epistemic), epistemic)
    own = _predictions("variance_decomposition variances", variances)
    if own.shape != mean.shape:
        raise ShapeError(
            "variance_decomposition variances",
            f"the shape of the means {mean.shape}",
            own.shape,
            "give one for each mean",
        )
    aleatoric = own.astype(mean.dtype).mean(0)
    return Decomposition(aleatoric + epistemic, aleatoric, epistemic)


@jax.jit
def _variance(means: Array) -> Array:
    """Return the variance over the first axis."""
    # About the first member, so that a large common part does not cancel.
    moved = means - means[:1]
    return jnp.square(moved - moved.mean(0, keepdims=True)).mean(0)


def disagreement(logits: Any) -> PerExample:
    """Compute the disagreement: the probability that two members predict different classes.

    It is 1 - Σ_c k_c (k_c - 1) / (M (M - 1)), where k_c of the M members predict class c. A
    prediction that is NaN agrees with none.

    Args:
        logits: (members, n, ..., classes) of two members or more; of one output, (members, n, ...,
            1).

    Returns:
        (n, ...), from 0 to 1.

    Raises:
        DTypeError: The logits are not floats, or are probabilities.
        ShapeError: There is no axis of members, or there is one member.
    """
    z = read_logits("disagreement", logits, members=True)
    if len(z) < 2:
        raise ShapeError(
            "disagreement logits",
            "two members or more",
            z.shape,
            "train several, or draw samples with ensemble.mc_dropout",
        )
    return _disagree(z)


@jax.jit
def _disagree(z: Array) -> PerExample:
    members, classes = z.shape[0], z.shape[-1]
    predicted = predict_class(z)  # (members, n, ...)
    votes = jax.nn.one_hot(predicted, classes, dtype=z.dtype).sum(0)  # (n, ..., classes)
    # Ordered pairs of members that agree, of M (M - 1) pairs.
    agreeing = (votes * (votes - 1)).sum(-1)
    return 1 - agreeing / (members * (members - 1))


def entropy(log_p: Array) -> Array:
    """Return the entropy -Σ p log p of rows of log-probabilities or logits, (...), in nats.

    With the shifted logits a = z - max z, H = log(1 + r) - Σ p a, where r is the sum of exp(a) but
    for the largest. No term is negative, so that nothing cancels.
    """
    a = log_p - log_p.max(-1, keepdims=True)
    is_largest = jax.nn.one_hot(log_p.argmax(-1), log_p.shape[-1], dtype=bool)
    powers = jnp.exp(a)
    # Without the 1 of the largest, which log1p adds without loss of digits.
    rest = jnp.where(is_largest, 0, powers).sum(-1)
    # A probability of 0 has a logit of -inf.
    surprise = powers * jnp.where(powers > 0, a, 0)
    return jnp.log1p(rest) - surprise.sum(-1) / (1 + rest)


def log_mean_exp(log_p: Array) -> Array:
    """Return the logarithm of the mean over the first axis of exp(log_p)."""
    largest = log_p.max(0, keepdims=True)
    safe = jnp.where(jnp.isneginf(largest), 0, largest)
    # The mean of exp, not its sum less log n: equal members have their own value exactly.
    mean = jnp.exp(log_p - safe).mean(0)
    # The logarithm of 0 would make the gradient NaN.
    is_zero = mean == 0
    return jnp.where(is_zero, -jnp.inf, jnp.log(jnp.where(is_zero, 1, mean)) + safe[0])


def _predictions(where: str, values: Any) -> Array:
    expect_floats(where, values)
    if values.ndim < 2 or not values.size:
        raise ShapeError(
            where,
            "(members, n, ...)",
            values.shape,
            "stack the predictions of the members, as in jnp.stack(predictions)",
        )
    return jnp.asarray(values, trees.wide(values))
