"""Checks shared by the losses: outputs and targets that fit each other. Nothing is broadcast."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import DTypeError, ShapeError
from fnn.types import PerExample, Shape

# Largest |Σ p - 1| of a row of probabilities: a thousand classes in bfloat16 stay within.
SUM_TOLERANCE = 1e-2


def nan_unless(valid: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Return a factor that is 1 where the targets are valid, else NaN.

    Outputs are multiplied by it on the way in, for the gradient, and values on the way out.
    """
    # where(valid, values, nan) would leave finite gradients, and training would continue silently.
    return jnp.where(valid, 1, jnp.nan).astype(dtype)


def mean_per_example(values: jax.Array) -> PerExample:
    """Average over all axes but the batch, (batch, ...) -> (batch,)."""
    rows = values.reshape(values.shape[0], -1)  # (batch, numbers of an example)
    return rows.mean(1)


def expect_pair(
    outputs: jax.Array,
    targets: jax.Array,
    *,
    allow_integers: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Check that both are floats of one shape, and return them in the outputs' dtype.

    The dtype is float32 at least. With `allow_integers`, targets may be integers or booleans.
    """
    checks.floating("outputs", outputs)
    # Integers and booleans are exact as masks and counts, so some losses allow them.
    if not allow_integers or jnp.issubdtype(targets.dtype, jnp.inexact):
        checks.floating("targets", targets)
    if outputs.shape != targets.shape:
        expected = f"the outputs' shape {outputs.shape}"
        raise ShapeError(
            "targets",
            expected,
            targets.shape,
            "reshape them to match",
        )
    _expect_examples(outputs)
    wide = trees.wide(outputs)
    return outputs.astype(wide), targets.astype(wide)


def one_hot(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Check labels (...) for logits (..., classes), and return them as one-hot rows.

    Returns:
        Booleans (..., classes), True at the label; and booleans (...), whether the label is a
        class.
    """
    checks.floating("logits", logits)
    _expect_integers("labels", labels)
    # At least (batch, classes): a bare row of logits has no batch axis.
    if logits.ndim < 2 or labels.shape != logits.shape[:-1]:
        expected = f"one a row of logits {logits.shape}"
        advice = (
            "give one label for each example; for labels of whole images, flatten or pool before "
            "the last layer"
        )
        raise ShapeError(
            "labels",
            expected,
            labels.shape,
            advice,
        )
    _expect_examples(logits)
    classes = logits.shape[-1]
    indices = as_int32(labels)
    mask = jax.nn.one_hot(indices, classes, dtype=bool)  # (..., classes)
    known = (indices >= 0) & (indices < classes)
    return mask, known


def class_probabilities(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the targets as probabilities (..., classes), in the dtype to compute in.

    Labels (...) are integers, or already such probabilities.

    Returns:
        The probabilities, and booleans (...), whether each row is a distribution.
    """
    checks.floating("logits", logits)
    # Probabilities have the rank of the logits, labels one axis less.
    if labels.ndim == logits.ndim:
        truth, known = _expect_probabilities(logits, labels)
    else:
        truth, known = one_hot(logits, labels)
    return truth.astype(trees.wide(logits)), known


def expect_integers(where: str, numbers: jax.Array, shape: Shape) -> jax.Array:
    """Return the array if it holds integers and has the shape; raise an error otherwise."""
    _expect_integers(where, numbers)
    if numbers.shape != shape:
        raise ShapeError(
            where,
            f"shape {shape}",
            numbers.shape,
            "give one for each",
        )
    return numbers


def as_int32(numbers: jax.Array) -> jax.Array:
    """Cast integers to int32, saturated at its range so that none wraps to a valid index."""
    # A comparison of uint8 with 300 classes would cast 300 to uint8.
    given = jnp.iinfo(numbers.dtype)
    limits = jnp.iinfo(jnp.int32)
    low = max(given.min, limits.min)
    high = min(given.max, limits.max)
    return numbers.clip(low, high).astype(jnp.int32)


def _expect_examples(outputs: jax.Array) -> None:
    # The mean over no examples would be NaN.
    if outputs.size == 0 or outputs.ndim == 0:
        expected = "at least one example (batch, ...)"
        raise ShapeError(
            "outputs",
            expected,
            outputs.shape,
            "check how the data was selected",
        )


def _expect_integers(where: str, numbers: jax.Array) -> None:
    if not jnp.issubdtype(numbers.dtype, jnp.integer):
        raise DTypeError(
            where,
            "an integer dtype",
            numbers.dtype,
            "cast them",
        )


def _expect_probabilities(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        # Labels in a column (batch, 1) have the rank of the logits; the message names both ways.
        got = f"{targets.dtype} {targets.shape}"
        advice = f"cast them, or give labels {logits.shape[:-1]}"
        raise DTypeError(
            "targets",
            f"float probabilities {logits.shape}",
            got,
            advice,
        )
    if targets.shape != logits.shape or logits.ndim == 0:
        expected = f"probabilities of shape {logits.shape}"
        raise ShapeError(
            "targets",
            expected,
            targets.shape,
            "give one for each class",
        )
    _expect_examples(logits)
    sums_to_one = jnp.abs(targets.sum(-1) - 1) < SUM_TOLERANCE
    return targets, sums_to_one
