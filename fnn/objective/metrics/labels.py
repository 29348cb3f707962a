"""How metrics read outputs and targets: as one of several classes, or as yes or no for each output.

A network with one output decides between two classes by the sign of its logit. It is read as the
two logits (0, z), whose softmax is the sigmoid of z.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import DTypeError, ShapeError
from fnn.objective.targets import (
    are_distributions,
    as_int32,
    expect_array,
    expect_examples,
    expect_floats,
)
from fnn.types import Number, PerExample

# Codes in the place of a class.
UNKNOWN = -1  # a label that is not a class, or a prediction of outputs that are NaN
IGNORED = -2  # a label that is left out


class Classes(NamedTuple):
    """Outputs and targets of one of several exclusive classes.

    Attributes:
        logits: (..., classes), with two classes or more, in float32 at least.
        truth: int32 (...), the class, UNKNOWN or IGNORED.
    """

    logits: jax.Array
    truth: jax.Array


def read_classes(
    logits: jax.Array,
    labels: jax.Array,
    *,
    ignore: int | None = None,
    threshold: Number = 0.5,
) -> Classes:
    """Read outputs and targets as exclusive classes; raise an error if they do not fit.

    Args:
        logits: (..., classes); or of one output, (..., 1) or (n,).
        labels: Integers (...), or probabilities (..., classes). For one output 0 or 1 in any dtype,
            or probabilities of class 1, (...) or of the shape of the logits.
        ignore: Label that is left out; None for none.
        threshold: Probability above which one output predicts class 1.
    """
    expect_floats("logits", logits)
    expect_array("labels", labels)
    expect_examples(logits)
    if is_single(logits, labels):
        z, answers = _single_output(logits, labels)
        no = jnp.broadcast_to(log_odds(threshold, z), z.shape)
        return Classes(jnp.stack([no, z], -1), read_answers(answers, ignore))
    truth = as_int32(expect_labels(logits, labels))
    classes = logits.shape[-1]
    if labels.shape == logits.shape:
        is_class = are_distributions(labels)
    else:
        is_class = (truth >= 0) & (truth < classes)
    known = jnp.where(is_class, truth, UNKNOWN)
    if ignore is not None and labels.shape != logits.shape:
        known = jnp.where(truth == ignore, IGNORED, known)
    return Classes(logits.astype(trees.wide(logits)), known)


def predict_class(logits: jax.Array) -> jax.Array:
    """Return the class of the largest logit, int32 (...); UNKNOWN if a logit is NaN."""
    # argmax returns the index of the first NaN, if there is one.
    prediction = logits.argmax(-1)
    largest = jnp.take_along_axis(logits, prediction[..., None], -1).squeeze(-1)  # (...)
    return jnp.where(jnp.isnan(largest), UNKNOWN, prediction.astype(jnp.int32))


class Answers(NamedTuple):
    """Outputs and targets of questions that are answered each by yes or no.

    Attributes:
        scores: z less the log-odds of the threshold, in float32 at least: yes where > 0.
        truth: int32 of the same shape, 0, 1, UNKNOWN or IGNORED.
    """

    scores: jax.Array
    truth: jax.Array


def read_binary(
    logits: jax.Array,
    targets: jax.Array,
    *,
    ignore: int | None = None,
    threshold: Number = 0.5,
) -> Answers:
    """Read each output as an answer; raise an error if outputs and targets do not fit.

    Args:
        logits: (n, ...).
        targets: 0 or 1 in any dtype, or probabilities, of the shape of the logits; or (n, ...) for
            logits (n, ..., 1).
        ignore: Target that is left out; None for none.
        threshold: Probability above which the answer is yes.
    """
    expect_floats("logits", logits)
    expect_array("targets", targets)
    expect_examples(logits)
    if targets.shape != logits.shape and (*targets.shape, 1) != logits.shape:
        raise ShapeError(
            "targets",
            f"the logits' shape {logits.shape}",
            targets.shape,
            "give 0 or 1 for each output",
        )
    z = logits.astype(trees.wide(logits))
    truth = read_answers(targets, ignore).reshape(z.shape)
    return Answers(z - log_odds(threshold, z), truth)


def predict_answer(scores: jax.Array) -> jax.Array:
    """Return 1 where a score is positive, else 0, int32; UNKNOWN for NaN."""
    return jnp.where(jnp.isnan(scores), UNKNOWN, (scores > 0).astype(jnp.int32))


def read_answers(targets: jax.Array, ignore: int | None) -> jax.Array:
    """Return 0 or 1, UNKNOWN or IGNORED for targets in any dtype; of probabilities the larger."""
    if jnp.issubdtype(targets.dtype, jnp.floating):
        is_answer = (targets >= 0) & (targets <= 1)
        answers = jnp.where(is_answer, (targets > 0.5).astype(jnp.int32), UNKNOWN)
        is_ignored = targets == ignore if ignore is not None else None
    elif targets.dtype == bool:
        return targets.astype(jnp.int32)
    else:
        expect_integer_labels(targets)
        numbers = as_int32(targets)
        answers = jnp.where((numbers == 0) | (numbers == 1), numbers, UNKNOWN)
        is_ignored = numbers == ignore if ignore is not None else None
    return answers if is_ignored is None else jnp.where(is_ignored, IGNORED, answers)


def is_single(logits: jax.Array, labels: jax.Array) -> bool:
    """Return whether these are outputs (..., 1), or scores (n,) with a target each."""
    return logits.shape[-1:] == (1,) or (logits.ndim == 1 and labels.ndim == 1)


def log_odds(threshold: Number, like: jax.Array) -> jax.Array:
    """Return the logit of a probability, exactly 0 at 1/2."""
    p = jnp.asarray(trees.knob(threshold, like), like.dtype)
    return jnp.log(p / (1 - p))


def expect_threshold(where: str, threshold: Any) -> Any:
    """Return the value if it is a probability that may be a threshold; ConfigError otherwise."""
    return checks.number(where, threshold, "(0, 1)")


def expect_labels(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the true classes (...) of logits (..., classes); raise an error if they do not fit."""
    expect_floats("logits", logits)
    expect_array("labels", labels)
    if labels.shape not in (logits.shape, logits.shape[:-1]):
        raise ShapeError(
            "labels",
            f"one a row of logits {logits.shape}",
            labels.shape,
            "give one label for each example",
        )
    if labels.shape != logits.shape:
        return expect_integer_labels(labels)
    if not jnp.issubdtype(labels.dtype, jnp.floating):
        # Rows of integers are one-hot, or of several labels: the largest entry says which only for
        # the first.
        raise DTypeError(
            "labels",
            f"integers {logits.shape[:-1]}, or float probabilities {logits.shape}",
            f"{labels.dtype} {labels.shape}",
            "for several labels an example use multilabel=True or binary_accuracy; cast one-hot "
            "rows to floats",
        )
    return labels.argmax(-1)


def expect_integer_labels(labels: jax.Array) -> jax.Array:
    """Return the labels if they are integers; DTypeError otherwise."""
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise DTypeError(
            "labels",
            "an integer dtype",
            labels.dtype,
            "cast them, or give probabilities (..., classes)",
        )
    return labels


def _single_output(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the logits of class 1 and the targets, both (...)."""
    are_scores = logits.ndim == 1 and labels.ndim == 1
    z = logits if are_scores else logits[..., 0]
    if labels.shape not in (z.shape, logits.shape):
        raise ShapeError(
            "labels",
            f"one a row of logits {logits.shape}",
            labels.shape,
            "give 0 or 1 for each example",
        )
    return z.astype(trees.wide(z)), labels.reshape(z.shape)


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
