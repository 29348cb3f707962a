"""Areas under curves of a whole data set: the ROC curve, and precision over recall."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

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
Ranked = tuple[Array, Array]
# (scores, weights of positives, weights of negatives), each (n,) -> area
Area = Callable[[Array, Array, Array], Array]


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

    def per_example(outputs: Array, labels: Array) -> Ranked:
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
            wide = trees.wide(outputs)
            outputs = outputs.astype(wide)
            outputs = outputs[:, 1] - outputs[:, 0]
        if labels.shape not in (outputs.shape[:1], outputs.shape):
            raise ShapeError(
                "labels",
                f"one an example, {outputs.shape[:1]}",
                labels.shape,
                "give 0 or 1 for each, or with more outputs the class",
            )
        return _scores(outputs, labels, label)

    def reduce(ranked: Ranked, weights: Array) -> Array:
        scores, truth = ranked  # (n, columns)
        spread_weights = spread(weights, scores)
        each = jnp.where(truth == IGNORED, 0, spread_weights)
        # Only an example that counts makes the area NaN.
        is_wrong = jnp.isnan(scores) | (truth == UNKNOWN)
        wrong = is_wrong & (each != 0)
        if average == "micro":
            # (n, columns) -> (n columns, 1)
            scores = scores.reshape(-1, 1)
            truth = truth.reshape(-1, 1)
            each = each.reshape(-1, 1)
        positive = jnp.where(truth == 1, each, 0)
        negative = jnp.where(truth == 0, each, 0)
        # A NaN score of padding would be sorted to the end, among the others.
        scores = jnp.where(each == 0, 0, scores)
        column_areas = jax.vmap(area, 1)
        areas = column_areas(scores, positive, negative)  # (columns,)
        areas = areas * jnp.where(wrong.any(), jnp.nan, 1)
        if len(areas) == 1:
            return areas[0]
        if average == "weighted":
            support = positive.sum(0)
            # A class without an example has no area, and no weight.
            weighed = jnp.where(support == 0, 0, support * areas)
            return weighed.sum() / support.sum()
        if average == "macro":
            return areas.mean()
        return areas

    return Metric(per_example, reduce, mode="max")


def _scores(
    outputs: Array,
    labels: Array,
    ignore: int | None,
) -> Ranked:
    """Return the scores and the truth of each class against the rest; one column for two."""
    logits, truth = read_classes(outputs, labels, ignore=ignore)
    classes = logits.shape[-1]
    if classes == 2:
        # The difference has the order of the probability of class 1.
        difference = logits[:, 1:] - logits[:, :1]
        return difference, truth[:, None]
    rows = jax.nn.one_hot(truth, classes, dtype=jnp.int32)  # (n, classes)
    # UNKNOWN and IGNORED hold for all classes, where one_hot has a row of 0.
    codes = jnp.where(truth < 0, truth, 0)
    codes = codes[:, None]  # (n, 1)
    log_odds = _class_log_odds(logits)
    return log_odds, rows + codes


def _class_log_odds(logits: Array) -> Array:
    """Return log p_c / (1 - p_c), p = softmax(logits), also where p rounds to 1, (n, classes)."""
    classes = logits.shape[-1]
    log_p = jax.nn.log_softmax(logits)
    largest = logits.argmax(-1)
    is_largest = jax.nn.one_hot(largest, classes, dtype=bool)
    # Only the largest probability can be more than 1/2, where 1 - p has a rounding error.
    others = jnp.where(is_largest, -jnp.inf, log_p)
    log_rest = jax.nn.logsumexp(others, axis=-1, keepdims=True)
    log_others = jnp.log1p(-jnp.exp(others))
    log_complement = jnp.where(is_largest, log_rest, log_others)
    return log_p - log_complement


def _area_under_roc(
    scores: Array,
    positive: Array,
    negative: Array,
) -> Array:
    order = jnp.argsort(scores)
    scores = scores[order]
    positive = positive[order]
    negative = negative[order]
    first_of_tie, last_of_tie = _ties(scores)
    # lower[i] is the weight of class 0 among the i lowest scores, (n + 1,).
    sums = jnp.cumsum(negative)
    lower = jnp.pad(sums, (1, 0))
    # For each score, the weight of class 0 strictly below it, and at or below it.
    at_first = jnp.where(first_of_tie, lower[:-1], 0)
    at_last = jnp.where(last_of_tie, lower[1:], jnp.inf)
    below = jax.lax.cummax(at_first)
    not_above = jax.lax.cummin(at_last, reverse=True)
    # The mean of the two counts each tie by half.
    pairs = positive * (below + not_above)
    shares = pairs / (2 * negative.sum())
    return shares.sum() / positive.sum()


def _area_under_precision(
    scores: Array,
    positive: Array,
    negative: Array,
) -> Array:
    order = jnp.argsort(-scores)
    positive = positive[order]
    negative = negative[order]
    _, last_of_tie = _ties(scores[order])

    def at_or_above(one: Array) -> Array:
        """Return for each score the weight at or above it, (n,)."""
        # Equal scores are one threshold, at the last of them.
        sums = jnp.cumsum(one)
        at_last = jnp.where(last_of_tie, sums, jnp.inf)
        return jax.lax.cummin(at_last, reverse=True)

    hits = at_or_above(positive)
    misses = at_or_above(negative)
    predicted = hits + misses
    divisor = jnp.where(predicted == 0, 1, predicted)
    precisions = hits / divisor
    gains = positive * precisions
    return gains.sum() / positive.sum()


def _ties(ranked: Array) -> tuple[Array, Array]:
    """Return where sorted scores (n,) begin and where they end a group of equal ones."""
    step = ranked[1:] != ranked[:-1]
    first = jnp.pad(step, (1, 0), constant_values=True)
    last = jnp.pad(step, (0, 1), constant_values=True)
    return first, last
