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
        # The two logits (log-odds of the threshold, z): class 1 is predicted where z is larger.
        odds = log_odds(threshold, z)
        no = jnp.broadcast_to(odds, z.shape)
        two_logits = jnp.stack([no, z], -1)
        truth = read_answers(answers, ignore)
        return Classes(two_logits, truth)
    own_classes = expect_labels(logits, labels)
    truth = as_int32(own_classes)
    wide_logits = logits.astype(trees.wide(logits))
    if labels.shape == logits.shape:
        # A distribution has no label that could be ignored.
        is_class = are_distributions(labels)
        known = jnp.where(is_class, truth, UNKNOWN)
        return Classes(wide_logits, known)
    classes = logits.shape[-1]
    is_class = (truth >= 0) & (truth < classes)
    known = jnp.where(is_class, truth, UNKNOWN)
    if ignore is not None:
        is_ignored = truth == ignore
        known = jnp.where(is_ignored, IGNORED, known)
    return Classes(wide_logits, known)


def predict_class(logits: jax.Array) -> jax.Array:
    """Return the class of the largest logit, int32 (...); UNKNOWN if a logit is NaN."""
    # argmax returns the index of the first NaN, if there is one.
    prediction = logits.argmax(-1)
    index = prediction[..., None]  # (..., 1)
    largest = jnp.take_along_axis(logits, index, -1)
    largest = largest.squeeze(-1)  # (...)
    is_invalid = jnp.isnan(largest)
    return jnp.where(is_invalid, UNKNOWN, prediction.astype(jnp.int32))


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
    # A single output may have its axis, which the targets lack.
    column_shape = (*targets.shape, 1)
    if targets.shape != logits.shape and column_shape != logits.shape:
        raise ShapeError(
            "targets",
            f"the logits' shape {logits.shape}",
            targets.shape,
            "give 0 or 1 for each output",
        )
    z = logits.astype(trees.wide(logits))
    answers = read_answers(targets, ignore)
    truth = answers.reshape(z.shape)
    scores = z - log_odds(threshold, z)
    return Answers(scores, truth)


def predict_answer(scores: jax.Array) -> jax.Array:
    """Return 1 where a score is positive, else 0, int32; UNKNOWN for NaN."""
    is_invalid = jnp.isnan(scores)
    # Ties are no: a score of 0 is not above the threshold.
    is_yes = scores > 0
    return jnp.where(is_invalid, UNKNOWN, is_yes.astype(jnp.int32))


def read_answers(targets: jax.Array, ignore: int | None) -> jax.Array:
    """Return 0 or 1, UNKNOWN or IGNORED for targets in any dtype; of probabilities the larger."""
    if targets.dtype == bool:
        return targets.astype(jnp.int32)
    if jnp.issubdtype(targets.dtype, jnp.floating):
        numbers = targets
        # NaN is no answer: both comparisons are False.
        is_answer = (numbers >= 0) & (numbers <= 1)
        likely = (numbers > 0.5).astype(jnp.int32)
        answers = jnp.where(is_answer, likely, UNKNOWN)
    else:
        expect_integer_labels(targets)
        numbers = as_int32(targets)
        is_answer = (numbers == 0) | (numbers == 1)
        answers = jnp.where(is_answer, numbers, UNKNOWN)
    if ignore is None:
        return answers
    is_ignored = numbers == ignore
    return jnp.where(is_ignored, IGNORED, answers)


def is_single(logits: jax.Array, labels: jax.Array) -> bool:
    """Return whether these are outputs (..., 1), or scores (n,) with a target each."""
    has_column = logits.shape[-1:] == (1,)
    are_scores = logits.ndim == 1 and labels.ndim == 1
    return has_column or are_scores


def log_odds(threshold: Number, like: jax.Array) -> jax.Array:
    """Return the logit of a probability, exactly 0 at 1/2."""
    number = trees.knob(threshold, like)
    p = jnp.asarray(number, like.dtype)
    odds = p / (1 - p)
    return jnp.log(odds)


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
