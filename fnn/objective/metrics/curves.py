"""Areas under curves of a whole data set: the ROC curve, and precision over recall."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.objective.metrics.labels import (
    IGNORED,
    UNKNOWN,
    read_binary,
    read_classes,
    spread,
)
from fnn.objective.targets import expect_array, expect_floats, ignored_label
from fnn.types import Metric
from fnn.values import maker

AVERAGES = ("macro", "micro", "weighted", "none")
# Scores and int32 codes of the truth: 0, 1, UNKNOWN or IGNORED, both (n, columns).
Ranked = tuple[jax.Array, jax.Array]
# (scores, weights of positives, weights of negatives), each (n,) -> area
Area = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@maker
def roc_auc(
    *,
    average: str = "macro",
    multilabel: bool = False,
    ignore: int | None = None,
) -> Metric:
    """Area under the ROC curve, exact: P(score of class 1 > score of class 0), ties counting half.

    It is Mann and Whitney's U / (n₁ n₀). The metric takes scores (n,) or (n, 1), or logits (n, 2),
    whose difference is the score; and targets 0 or 1, (n,) or of the shape of the outputs. Of more
    classes, logits (n, classes) and labels (n,) or probabilities, each class is compared with the
    rest by the logarithm of its odds, and the areas are averaged. It is NaN if a class is missing,
    or for a NaN score or another target, unless its weight is 0.

    Args:
        average: Of the areas of the classes: "macro", their mean; "weighted", weighted by the
            number of examples of a class; "micro", one area of all pairs of example and class;
            "none", one for each class, (classes,). With two classes there is one area.
        multilabel: Whether an example may have several classes. The targets are then 0 or 1 for
            each logit, which is the score.
        ignore: Label that does not count.

    Raises:
        ConfigError: An option is out of range.
        DTypeError: When called, the outputs are not floats, or the labels do not fit.
        ShapeError: When called, the shapes do not fit.
    """
    return _area("roc_auc", _area_under_roc, average, multilabel, ignore)


@maker
def average_precision(
    *,
    average: str = "macro",
    multilabel: bool = False,
    ignore: int | None = None,
) -> Metric:
    """Average precision, Σ_n (R_n - R_{n-1}) P_n over the thresholds n, from the highest score.

    P and R are precision and recall of the examples at and above the threshold; nothing is
    interpolated, and equal scores are one threshold. Inputs and errors are those of roc_auc. It is
    NaN if there is no example of the class.

    Args:
        average: As for roc_auc.
        multilabel: As for roc_auc.
        ignore: Label that does not count.
    """
    return _area("average_precision", _area_under_precision, average, multilabel, ignore)


def _area(
    name: str,
    area: Area,
    average: str,
    multilabel: bool,
    ignore: int | None,
) -> Metric:
    checks.choice(f"{name} average", average, AVERAGES)
    checks.flag(f"{name} multilabel", multilabel)
    label = ignored_label(f"{name} ignore", ignore)

    def per_example(outputs: jax.Array, labels: jax.Array) -> Ranked:
        expect_floats("outputs", outputs)
        expect_array("labels", labels)
        if outputs.ndim not in (1, 2):
            raise ShapeError(
                "outputs",
                "scores (n,) or logits (n, classes)",
                outputs.shape,
                "give a score an example",
            )
        if multilabel:
            if outputs.ndim == 1:
                raise ShapeError(
                    "outputs",
                    "logits (n, classes) with multilabel=True",
                    outputs.shape,
                    "leave multilabel out for one output",
                )
            return read_binary(outputs, labels, ignore=label)
        if outputs.shape[1:] == (2,) and labels.ndim == 1:
            # The difference has the order of the probability of class 1.
            outputs = outputs.astype(trees.wide(outputs))
            outputs = outputs[:, 1] - outputs[:, 0]
        if labels.shape not in (outputs.shape[:1], outputs.shape):
            raise ShapeError(
                "labels",
                f"one an example, {outputs.shape[:1]}",
                labels.shape,
                "give 0 or 1 for each, or with more outputs the class",
            )
        return _scores(outputs, labels, label)

    def reduce(ranked: Ranked, weights: jax.Array) -> jax.Array:
        scores, truth = ranked  # (n, columns)
        each = jnp.where(truth == IGNORED, 0, spread(weights, scores))
        wrong = (jnp.isnan(scores) | (truth == UNKNOWN)) & (each != 0)
        if average == "micro":
            scores, truth, each = (array.reshape(-1, 1) for array in (scores, truth, each))
        positive = jnp.where(truth == 1, each, 0)
        negative = jnp.where(truth == 0, each, 0)
        # A NaN score of padding would be sorted to the end, among the others.
        scores = jnp.where(each == 0, 0, scores)
        areas = jax.vmap(area, 1)(scores, positive, negative)  # (columns,)
        areas = areas * jnp.where(wrong.any(), jnp.nan, 1)
        if len(areas) == 1:
            return areas[0]
        if average == "weighted":
            support = positive.sum(0)
            # A class without an example has no area, and no weight.
            weighed = jnp.where(support == 0, 0, support * areas)
            return weighed.sum() / support.sum()
        return areas.mean() if average == "macro" else areas

    return Metric(per_example, reduce)


def _scores(outputs: jax.Array, labels: jax.Array, ignore: int | None) -> Ranked:
    """Return the scores and the truth of each class against the rest; one column for two."""
    logits, truth = read_classes(outputs, labels, ignore=ignore)
    classes = logits.shape[-1]
    if classes == 2:
        return logits[:, 1:] - logits[:, :1], truth[:, None]
    rows = jax.nn.one_hot(truth, classes, dtype=jnp.int32)  # (n, classes)
    codes = jnp.where(truth < 0, truth, 0)[:, None]  # UNKNOWN and IGNORED hold for all classes
    return _class_log_odds(logits), rows + codes


def _class_log_odds(logits: jax.Array) -> jax.Array:
    """Return log p_c / (1 - p_c), p = softmax(logits), also where p rounds to 1, (n, classes)."""
    log_p = jax.nn.log_softmax(logits)
    is_largest = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=bool)
    # Only the largest probability can be more than 1/2, where 1 - p has a rounding error.
    log_rest = jax.nn.logsumexp(jnp.where(is_largest, -jnp.inf, log_p), axis=-1, keepdims=True)
    log_others = jnp.log1p(-jnp.exp(jnp.where(is_largest, -jnp.inf, log_p)))
    return log_p - jnp.where(is_largest, log_rest, log_others)


def _area_under_roc(scores: jax.Array, positive: jax.Array, negative: jax.Array) -> jax.Array:
    order = jnp.argsort(scores)
    scores, positive, negative = scores[order], positive[order], negative[order]
    first_of_tie, last_of_tie = _ties(scores)
    # lower[i] is the weight of class 0 among the i lowest scores, (n + 1,).
    lower = jnp.pad(jnp.cumsum(negative), (1, 0))
    # For each score, the weight of class 0 strictly below it, and at or below it.
    below = jax.lax.cummax(jnp.where(first_of_tie, lower[:-1], 0))
    not_above = jax.lax.cummin(jnp.where(last_of_tie, lower[1:], jnp.inf), reverse=True)
    # The mean of the two counts each tie by half.
    pairs = positive * (below + not_above)
    return (pairs / (2 * negative.sum())).sum() / positive.sum()


def _area_under_precision(
    scores: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
) -> jax.Array:
    order = jnp.argsort(-scores)
    positive, negative = positive[order], negative[order]
    _, last_of_tie = _ties(scores[order])
    # For each score, the weight of each class at or above it.
    hits, misses = (
        jax.lax.cummin(jnp.where(last_of_tie, jnp.cumsum(one), jnp.inf), reverse=True)
        for one in (positive, negative)
    )
    predicted = hits + misses
    precisions = hits / jnp.where(predicted == 0, 1, predicted)
    return (positive * precisions).sum() / positive.sum()


def _ties(ranked: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return where sorted scores (n,) begin and where they end a group of equal ones."""
    step = ranked[1:] != ranked[:-1]
    first = jnp.pad(step, (1, 0), constant_values=True)
    last = jnp.pad(step, (0, 1), constant_values=True)
    return first, last
