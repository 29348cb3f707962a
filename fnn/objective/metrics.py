"""What is reported. A metric, like a loss, is (outputs, targets) -> one value an example."""

import jax.numpy as jnp

from fnn import checks
from fnn.errors import DTypeError, ShapeError
from fnn.types import Labels, Logits, PerExample, Probabilities


def accuracy(logits: Logits, labels: Labels | Probabilities) -> PerExample:
    """1 where the largest logit is at the true class, else 0; of equal logits the first counts.

    logits (..., classes); labels (...) as integers, or (..., classes) as probabilities, whose largest is the truth.
    ShapeError or DTypeError where the two do not fit.
    """
    checks.floating("logits", logits)
    if labels.ndim != logits.ndim and not jnp.issubdtype(labels.dtype, jnp.integer):
        raise DTypeError("labels", "an integer dtype", labels.dtype, "cast them, or give probabilities (..., classes)")
    truth = labels.argmax(-1) if labels.ndim == logits.ndim else labels
    if truth.shape != logits.shape[:-1] or labels.shape not in (logits.shape, truth.shape):
        raise ShapeError(
            "labels", f"one a row of logits {logits.shape}", labels.shape, "give one label for each example"
        )
    guess = logits.argmax(-1)
    return (guess == truth.astype(guess.dtype)).astype(jnp.float32)
