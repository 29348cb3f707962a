"""What a loss may be given: outputs and targets that fit each other. Nothing is broadcast."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import DTypeError, ShapeError
from fnn.types import PerExample, Shape

SUM_TOLERANCE = (
    1e-2  # how far probabilities may sum from 1: a thousand classes in bfloat16 stay within
)


def alarm(fine: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """1 where all is well, else NaN: a factor on the way in, for the gradient, and on the way out, for the value.

    where(fine, values, nan) would leave finite gradients, and training would go on in silence.
    """
    return jnp.where(fine, 1, jnp.nan).astype(dtype)


def per_example(values: jax.Array) -> PerExample:
    """The mean over all that belongs to one example, (batch, ...) -> (batch,)."""
    return values.reshape(values.shape[0], -1).mean(1)


def paired(
    outputs: jax.Array, targets: jax.Array, *, whole: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Both in the outputs' dtype, float32 at least; ShapeError or DTypeError unless they are floats of one shape.

    With whole the targets may also be integers or truth values.
    """
    checks.floating("outputs", outputs)
    if not whole or jnp.issubdtype(targets.dtype, jnp.inexact):
        checks.floating("targets", targets)
    if outputs.shape != targets.shape:
        raise ShapeError(
            "targets", f"the outputs' shape {outputs.shape}", targets.shape, "reshape them to match"
        )
    _expect_examples(outputs)
    wide = trees.wide(outputs)
    return outputs.astype(wide), targets.astype(wide)


def one_hot(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where the true class is, (..., classes) of booleans, and whether each label (...) names a class."""
    checks.floating("logits", logits)
    _expect_integers("labels", labels)
    if logits.ndim < 2 or labels.shape != logits.shape[:-1]:
        advice = "give one label for each example; for labels of whole images, flatten or pool before the last layer"
        raise ShapeError("labels", f"one a row of logits {logits.shape}", labels.shape, advice)
    _expect_examples(logits)
    places = countable(labels)
    return jax.nn.one_hot(places, logits.shape[-1], dtype=bool), (places >= 0) & (
        places < logits.shape[-1]
    )


def whole_numbers(where: str, numbers: jax.Array, shape: Shape) -> jax.Array:
    """The array, if it holds integers and has the shape."""
    _expect_integers(where, numbers)
    if numbers.shape != shape:
        raise ShapeError(where, f"shape {shape}", numbers.shape, "give one for each")
    return numbers


def countable(numbers: jax.Array) -> jax.Array:
    """The integers as int32, as a byte cannot be held against 300; beyond its range the nearest, so that none wraps."""
    own, limits = jnp.iinfo(numbers.dtype), jnp.iinfo(jnp.int32)
    return numbers.clip(max(own.min, limits.min), min(own.max, limits.max)).astype(jnp.int32)


def _expect_examples(outputs: jax.Array) -> None:
    if outputs.size == 0 or outputs.ndim == 0:
        advice = "check how the data was selected"
        raise ShapeError("outputs", "at least one example (batch, ...)", outputs.shape, advice)


def _expect_integers(where: str, numbers: jax.Array) -> None:
    if not jnp.issubdtype(numbers.dtype, jnp.integer):
        raise DTypeError(where, "an integer dtype", numbers.dtype, "cast them")


def distribution(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The truth as probabilities (..., classes) in the dtype to compute in, and whether each row is one.

    labels (...) are integers, or already such probabilities.
    """
    checks.floating("logits", logits)
    truth, known = (_probabilities if labels.ndim == logits.ndim else one_hot)(logits, labels)
    return truth.astype(trees.wide(logits)), known


def _probabilities(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        got, advice = (
            f"{targets.dtype} {targets.shape}",
            f"cast them, or give labels {logits.shape[:-1]}",
        )
        raise DTypeError("targets", f"float probabilities {logits.shape}", got, advice)
    if targets.shape != logits.shape or logits.ndim == 0:
        raise ShapeError(
            "targets",
            f"probabilities of shape {logits.shape}",
            targets.shape,
            "give one for each class",
        )
    _expect_examples(logits)
    return targets, jnp.abs(targets.sum(-1) - 1) < SUM_TOLERANCE
