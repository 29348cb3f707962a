"""Combination of the members' outputs into one prediction.

All functions are pure, and take outputs (members, n, ...) as `ensemble.predict` returns them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import trees
from fnn.errors import ShapeError
from fnn.nn.core.mixtures import average_in_logits
from fnn.objective.metrics.labels import UNKNOWN, predict_class
from fnn.objective.targets import expect_floats


class Moments(NamedTuple):
    """Mean and variance of each prediction, the pair that `objective.gaussian_nll` takes.

    Attributes:
        mean: (n, ...).
        variance: (n, ...), >= 0.
    """

    mean: Array
    variance: Array


def average_probabilities(logits: Any) -> Array:
    """Average the members' probabilities; return the logits of the mean, log Σ_m softmax(z_m) / M.

    This is the prediction of a deep ensemble. For every example its negative log-likelihood is at
    most the mean of those of the members, by Jensen's inequality. [Lakshminarayanan et al. 2017,
    arXiv:1612.01474]

    Args:
        logits: (members, n, ..., classes). A last axis of 1 is the logit of the second of two
            classes. Separate yes-or-no questions (members, n, questions) need an axis of their own,
            as in average_probabilities(logits[..., None])[..., 0].

    Returns:
        Logits (n, ..., classes), which losses, metrics and calibration take; their softmax is the
        mean. With a last axis of 1 as well, where the logits have one.

    Raises:
        DTypeError: The logits are not one array of floats.
        ShapeError: There is no axis of members.
    """
    z = _expect_outputs("average_probabilities logits", logits, "(members, n, ..., classes)", 3)
    # (members, n, ..., classes) -> (n, ..., classes)
    # In log space, where tiny probabilities do not vanish.
    return average_in_logits(z, 0)


def average_outputs(outputs: Any) -> Any:
    """Average the members' outputs: the mean prediction, or for logits the mean of the logits.

    The softmax of mean logits is the normalized geometric mean of the probabilities. It is more
    confident than the mean of the probabilities where members differ.

    Args:
        outputs: Arrays of floats (members, n, ...), in any structure.

    Returns:
        Arrays (n, ...).

    Raises:
        DTypeError: An array does not hold floats.
        ShapeError: There is no axis of members.
    """

    def average(leaf: Any) -> Array:
        # (members, n, ...) -> (n, ...)
        return _expect_outputs("average_outputs outputs", leaf, "(members, n, ...)", 2).mean(0)

    return jax.tree.map(average, outputs)


def vote(logits: Any) -> Array:
    """Return the class that most members predict; of several, the lowest one.

    A member whose logits are NaN predicts none. The label is -1 where all are.

    Args:
        logits: (members, n, ..., classes). A last axis of 1 is the logit of the second of two
            classes, which a member predicts if it is > 0.

    Returns:
        Labels (n, ...), int32.

    Raises:
        DTypeError: The logits are not one array of floats.
        ShapeError: There is no axis of members.
    """
    z = _expect_outputs("vote logits", logits, "(members, n, ..., classes)", 3)
    # One output decides between two classes.
    classes = max(z.shape[-1], 2)
    # (members, n, ...)
    if z.shape[-1] == 1:
        # The other class has logit 0.
        z = jnp.concatenate([jnp.zeros_like(z), z], -1)
    predicted = predict_class(z)
    # (members, n, ..., classes) -> (n, ..., classes). The row of UNKNOWN is 0.
    counts = jax.nn.one_hot(predicted, classes, dtype=jnp.int32).sum(0, dtype=jnp.int32)
    # Among equal counts argmax returns the first one, the lowest class.
    return jnp.where(counts.any(-1), counts.argmax(-1).astype(jnp.int32), UNKNOWN)


def mixture_moments(means: Any, variances: Any = None) -> Moments:
    """Compute mean and variance of the equal mixture of the members' normal distributions.

    The mean is Σ_m μ_m / M, and the variance Σ_m (σ²_m + μ²_m) / M - mean², computed without
    cancellation: the mean variance plus the variance of the means. [Lakshminarayanan et al. 2017,
    arXiv:1612.01474, §2.4]

    Args:
        means: (members, n, ...).
        variances: Of the same shape, >= 0; None for members that predict a mean only, whose
            variance is 0.

    Raises:
        DTypeError: An array does not hold floats.
        ShapeError: There is no axis of members, or the shapes differ.
    """
    mu = _expect_outputs("mixture_moments means", means, "(members, n, ...)", 2)
    mean = mu.mean(0)  # (n, ...)
    # Differences first: the mean square less the squared mean would cancel.
    variance = jnp.square(mu - mean[None]).mean(0)
    if variances is not None:
        own = _expect_outputs("mixture_moments variances", variances, "(members, n, ...)", 2)
        if own.shape != mu.shape:
            advice = "give one variance for each mean"
            expected = f"the shape of the means {mu.shape}"
            raise ShapeError(
                "mixture_moments variances",
                expected,
                own.shape,
                advice,
            )
        # The law of total variance: the mean of the members' variances is added.
        variance += own.astype(mu.dtype).mean(0)
    return Moments(mean, variance)


def _expect_outputs(
    where: str,
    outputs: Any,
    shape: str,
    rank: int,
) -> Array:
    """Return outputs of members in float32 at least."""
    expect_floats(where, outputs)
    if outputs.ndim < rank or not outputs.shape[0]:
        advice = "give those of ensemble.predict; of a single network outputs[None]"
        raise ShapeError(
            where,
            shape,
            outputs.shape,
            advice,
        )
    # A mean over members in 16 bits would lose digits.
    return jnp.asarray(outputs, trees.wide(outputs))
