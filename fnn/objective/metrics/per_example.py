"""What is reported as a mean over examples: like a loss, (outputs, targets) -> one value an example."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import DTypeError, ShapeError
from fnn.types import Labels, Logits, Loss, PerExample, Probabilities
from fnn.values import maker


def accuracy(logits: Logits, labels: Labels | Probabilities) -> PerExample:
    """1 where the largest logit is at the true class, else 0; of equal logits the first counts.

    logits (..., classes); labels (...) as integers, or (..., classes) as probabilities, whose largest is the truth.
    ShapeError or DTypeError where the two do not fit.
    """
    truth, guess = expect_labels(logits, labels), logits.argmax(-1)
    return (guess == truth.astype(guess.dtype)).astype(jnp.float32)


@maker
def top_k(k: int) -> Loss:
    """1 where the true class is among those of the k largest logits, else 0; of equal logits the first count.

    logits (..., classes); labels (...) as integers, or (..., classes) as probabilities, whose largest is the truth.
    ConfigError unless k >= 1; ShapeError or DTypeError where the two do not fit, or there are fewer than k classes.
    """
    checks.whole("top_k k", k)

    def top_k(logits: Logits, labels: Labels | Probabilities) -> PerExample:
        truth = expect_labels(logits, labels).astype(jnp.result_type(int))[..., None]
        if (classes := logits.shape[-1]) < k:
            raise ShapeError(
                "logits",
                f"(..., classes) with at least k={k} classes",
                logits.shape,
                "choose a smaller k",
            )
        own = jnp.take_along_axis(logits, truth.clip(0, classes - 1), -1)
        places = jnp.arange(classes).reshape((1,) * (logits.ndim - 1) + (-1,))
        # Counted are those that surely come after the true one, so that a NaN among the logits makes nothing right.
        after = ((logits < own) | ((logits == own) & (places > truth))).sum(-1)
        known = ((truth >= 0) & (truth < classes)).squeeze(-1)
        return (known & (after >= classes - k)).astype(jnp.float32)

    return Loss(top_k)


def expect_labels(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The true classes (...) of logits (..., classes); ShapeError or DTypeError where the two do not fit."""
    checks.floating("logits", logits)
    if labels.ndim != logits.ndim and not jnp.issubdtype(labels.dtype, jnp.integer):
        raise DTypeError(
            "labels",
            "an integer dtype",
            labels.dtype,
            "cast them, or give probabilities (..., classes)",
        )
    truth = labels.argmax(-1) if labels.ndim == logits.ndim else labels
    if truth.shape != logits.shape[:-1] or labels.shape not in (logits.shape, truth.shape):
        raise ShapeError(
            "labels",
            f"one a row of logits {logits.shape}",
            labels.shape,
            "give one label for each example",
        )
    return truth


def spread(weights: PerExample, statistic: jax.Array) -> jax.Array:
    """Weights of examples (n,) as weights of all that a statistic (n, ...) has of them, in its dtype if it is floating.

    ShapeError for weights of another shape.
    """
    if weights.shape != statistic.shape[:1]:
        raise ShapeError(
            "weights", f"one an example, {statistic.shape[:1]}", weights.shape, "give 0 for padding"
        )
    dtype = (
        statistic.dtype if jnp.issubdtype(statistic.dtype, jnp.floating) else jnp.result_type(float)
    )
    each = weights.astype(dtype).reshape(weights.shape + (1,) * (statistic.ndim - 1))
    return jnp.broadcast_to(each, statistic.shape)
