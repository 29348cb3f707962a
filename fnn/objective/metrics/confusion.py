"""What is reported of how classes are taken for one another: measures of a whole set, made of counts."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.objective.metrics.per_example import expect_labels, spread
from fnn.objective.targets import countable
from fnn.types import Metric
from fnn.values import maker

AVERAGES = ("macro", "micro", "binary", "none")
Seen = tuple[
    jax.Array, jax.Array
]  # truth and guess, each one-hot (n, ..., classes); where no class is true, no 1


@maker
def confusion_matrix(classes: int) -> Metric:
    """How many examples of each class (rows) were taken for each class (columns): counts (classes, classes).

    outputs: logits (n, ..., classes); targets: labels (n, ...) as integers, or probabilities. Weighted examples count
    by their weights. A label out of range makes it NaN, unless its weight is 0. ConfigError unless classes >= 1;
    ShapeError or DTypeError where outputs or targets do not fit.
    """
    checks.whole("confusion_matrix classes", classes)

    def look(logits: jax.Array, labels: jax.Array) -> Seen:
        if logits.shape[-1:] != (classes,):
            raise ShapeError(
                "logits",
                f"(..., {classes}) as in classes",
                logits.shape,
                "give their number as classes",
            )
        return _look(logits, labels)

    def finish(seen: Seen, weights: jax.Array) -> jax.Array:
        each = spread(weights, seen[0][..., 0]).reshape(-1, 1)
        truth, guess = (one.reshape(-1, classes).astype(each.dtype) for one in seen)
        return jnp.matmul((each * truth).T, guess, precision="highest") * _alarm(seen, weights)

    return Metric(look, finish)


@maker
def precision(*, average: str = "macro") -> Metric:
    """Of the examples taken for a class, the share that is of it: hits / guessed, 0 where none was taken for it.

    outputs: logits (n, ..., classes); targets: labels (n, ...) as integers, or probabilities. average: "macro", the
    mean over all classes, also those that do not occur; "micro", of the counts of all classes; "binary", class 1 of
    two; "none", one for each class, (classes,). A label out of range makes it NaN, unless its weight is 0. ConfigError
    for another average; ShapeError or DTypeError where outputs or targets do not fit.
    """
    return _of_counts("precision", average, lambda hits, guessed, true: _share(hits, guessed))


@maker
def recall(*, average: str = "macro") -> Metric:
    """Of the examples of a class, the share taken for it: hits / true, 0 where there are none; else as precision."""
    return _of_counts("recall", average, lambda hits, guessed, true: _share(hits, true))


@maker
def f1(*, average: str = "macro") -> Metric:
    """The harmonic mean of precision and recall, 2 hits / (guessed + true), 0 where both are 0; else as precision."""
    return _of_counts("f1", average, lambda hits, guessed, true: _share(2 * hits, guessed + true))


def _of_counts(
    name: str, average: str, ratio: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
) -> Metric:
    if average not in AVERAGES:
        raise ConfigError(
            f"{name} average", f"one of {', '.join(AVERAGES)}", repr(average), "choose one of them"
        )

    def look(logits: jax.Array, labels: jax.Array) -> Seen:
        if average == "binary" and logits.shape[-1:] != (2,):
            raise ShapeError(
                "logits", "(..., 2), as average is binary", logits.shape, 'choose average="macro"'
            )
        return _look(logits, labels)

    def finish(seen: Seen, weights: jax.Array) -> jax.Array:
        truth, guess = seen
        each = spread(weights, truth)

        def count(marked: jax.Array) -> jax.Array:
            return jnp.where(marked, each, 0).sum(tuple(range(marked.ndim - 1)))

        counts = [count(truth & guess), count(guess), count(truth)]
        counts = [one.sum() for one in counts] if average == "micro" else counts
        values = ratio(*counts) * _alarm(seen, weights)
        if average == "binary":
            return values[1]
        return values.mean() if average == "macro" else values

    return Metric(look, finish)


def _look(logits: jax.Array, labels: jax.Array) -> Seen:
    truth, classes = countable(expect_labels(logits, labels)), logits.shape[-1]
    return jax.nn.one_hot(truth, classes, dtype=bool), jax.nn.one_hot(
        logits.argmax(-1), classes, dtype=bool
    )


def _alarm(seen: Seen, weights: jax.Array) -> jax.Array:
    """NaN if an example that counts is of no class, else 1."""
    unknown = ~seen[0].any(-1)
    return jnp.where((unknown & (spread(weights, unknown) != 0)).any(), jnp.nan, 1.0)


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    return part / jnp.where(whole == 0, 1, whole)
