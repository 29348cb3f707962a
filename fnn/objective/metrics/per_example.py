"""Metrics that are means over examples: functions (outputs, targets) -> one value an example."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import DTypeError, ShapeError
from fnn.types import Labels, Logits, Loss, PerExample, Probabilities
from fnn.values import maker


def accuracy(logits: Logits, labels: Labels | Probabilities) -> PerExample:
    """Accuracy: 1 where the largest logit is at the true class, else 0.

    Of equal logits the first counts.

    Args:
        logits: (..., classes).
        labels: Integers (...), or probabilities (..., classes), whose largest is at the true class.

    Raises:
        DTypeError: The logits are not floats, or the labels are neither.
        ShapeError: The shapes do not fit.
    """
    truth = expect_labels(logits, labels)
    prediction = logits.argmax(-1)
    # One dtype on both sides, as strict promotion requires.
    return (prediction == truth.astype(prediction.dtype)).astype(jnp.float32)


@maker
def top_k(k: int) -> Loss:
    """Top-k accuracy: 1 where the true class has one of the k largest logits, else 0.

    Of equal logits the first count. The metric takes logits (..., classes) and labels as accuracy.

    Args:
        k: Number of the largest logits, at least 1.

    Raises:
        ConfigError: `k` is not a whole number >= 1.
        DTypeError: When called, the logits are not floats, or the labels are neither.
        ShapeError: When called, the shapes do not fit, or there are fewer than k classes.
    """
    checks.whole("top_k k", k)

    def top_k(logits: Logits, labels: Labels | Probabilities) -> PerExample:
        truth = expect_labels(logits, labels).astype(jnp.result_type(int))[..., None]  # (..., 1)
        classes = logits.shape[-1]
        if classes < k:
            expected = f"(..., classes) with at least k={k} classes"
            raise ShapeError(
                "logits",
                expected,
                logits.shape,
                "choose a smaller k",
            )
        true_logit = jnp.take_along_axis(logits, truth.clip(0, classes - 1), -1)  # (..., 1)
        # The index of each class, of the rank of the logits: (1, ..., 1, classes).
        indices = jnp.arange(classes).reshape((1,) * (logits.ndim - 1) + (-1,))
        # Counted are the classes that surely rank after the true one, so that NaN is never right.
        ranks_after = (logits < true_logit) | ((logits == true_logit) & (indices > truth))
        after = ranks_after.sum(-1)
        # A clipped label would be taken for the first or the last class.
        known = ((truth >= 0) & (truth < classes)).squeeze(-1)
        return (known & (after >= classes - k)).astype(jnp.float32)

    return Loss(top_k)


def expect_labels(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the true classes (...) of logits (..., classes); raise an error if they do not fit."""
    checks.floating("logits", logits)
    are_probabilities = labels.ndim == logits.ndim
    if not are_probabilities and not jnp.issubdtype(labels.dtype, jnp.integer):
        advice = "cast them, or give probabilities (..., classes)"
        raise DTypeError(
            "labels",
            "an integer dtype",
            labels.dtype,
            advice,
        )
    truth = labels.argmax(-1) if are_probabilities else labels
    if truth.shape != logits.shape[:-1] or labels.shape not in (logits.shape, truth.shape):
        expected = f"one a row of logits {logits.shape}"
        raise ShapeError(
            "labels",
            expected,
            labels.shape,
            "give one label for each example",
        )
    return truth


def spread(weights: PerExample, statistic: jax.Array) -> jax.Array:
    """Broadcast weights of examples (n,) to the shape of a statistic (n, ...).

    They get its dtype if that is floating-point. ShapeError for weights of another shape.
    """
    if weights.shape != statistic.shape[:1]:
        expected = f"one an example, {statistic.shape[:1]}"
        raise ShapeError(
            "weights",
            expected,
            weights.shape,
            "give 0 for padding",
        )
    is_floating = jnp.issubdtype(statistic.dtype, jnp.floating)
    dtype = statistic.dtype if is_floating else jnp.result_type(float)
    column_shape = weights.shape + (1,) * (statistic.ndim - 1)  # (n, 1, ..., 1)
    column = weights.astype(dtype).reshape(column_shape)
    return jnp.broadcast_to(column, statistic.shape)
