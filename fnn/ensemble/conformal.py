"""Conformal prediction: sets of classes that hold the truth with a given probability."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks, trees
from fnn.ensemble.logits import read_examples, read_logits
from fnn.errors import ShapeError
from fnn.objective.metrics.labels import UNKNOWN
from fnn.objective.targets import expect_floats
from fnn.types import Labels, Logits, Number, RandomKey
from fnn.values import maker

# logits (n, ..., classes) -> booleans of this shape, whether a class is in the set
PredictionSets = Callable[..., Array]


def conformal_quantile(scores: Any, alpha: Number) -> Array:
    """Compute the ⌈(n + 1)(1 - α)⌉-th smallest of n scores, the threshold of split conformal.

    The score of another example is at most the threshold with probability >= 1 - α, if it is
    exchangeable with the n examples, whatever the network; without ties, with probability
    ⌈(n + 1)(1 - α)⌉ / (n + 1). For given scores, this coverage follows Beta(k, n + 1 - k) with
    k = ⌈(n + 1)(1 - α)⌉. For α < 1 / (n + 1) no score is large enough: the threshold is infinite,
    and sets and intervals hold everything. NaN counts as the largest score
    [Vovk et al. 2005; Angelopoulos & Bates 2023, arXiv:2107.07511].

    Args:
        scores: (n, ...), of held-out examples; each column has a threshold of its own.
        alpha: Share of examples that may be missed, in (0, 1).

    Returns:
        (...).

    Raises:
        ConfigError: `alpha` is outside of (0, 1).
        DTypeError: The scores are not floats.
        ShapeError: There is no score.
    """
    checks.number("conformal_quantile alpha", alpha, "(0, 1)")
    expect_floats("conformal_quantile scores", scores)
    if not scores.ndim or not scores.size:
        raise ShapeError(
            "conformal_quantile scores",
            "(n, ...)",
            scores.shape,
            "give some scores",
        )
    # (n, ...), each column sorted on its own.
    ranked = jnp.sort(jnp.asarray(scores, trees.wide(scores)), 0)
    # NaN is sorted to the end, so that as infinity it keeps its place.
    ranked = jnp.where(jnp.isnan(ranked), jnp.inf, ranked)
    widths = [(0, 1)] + [(0, 0)] * (ranked.ndim - 1)
    # One more, for a rank of n + 1.
    padded = jnp.pad(ranked, widths, constant_values=jnp.inf)
    # Ranks count from 1, indices from 0.
    return padded[_rank(len(scores), alpha) - 1]


def _rank(n: int, alpha: Number) -> Any:
    """Return ⌈(n + 1)(1 - α)⌉, in which rounding must not reach the next integer."""
    if checks.is_concrete(alpha):
        # In decimal digits, a float32 of 0.1 is meant as 0.1.
        known = float(str(np.asarray(alpha)))
        # 1e-9 is above the rounding of float64, and far below 1 / n for data in memory.
        return max(1, math.ceil((n + 1) * (1 - known - 1e-9)))
    traced = jnp.asarray(alpha, jnp.result_type(float))
    # The product may be rounded above a whole number, and ceil would then add one.
    rounding = 4 * jnp.finfo(traced.dtype).eps
    rank = jnp.ceil((n + 1) * (1 - traced - rounding))
    # Rank n + 1 is the infinite score; rank 1 remains for alpha near 1.
    return rank.clip(1, n + 1).astype(jnp.int32)


# Sets of classes.


@maker
def threshold_sets(threshold: Number) -> PredictionSets:
    """Sets of the classes with -log p <= threshold (LAC, least ambiguous sets on average).

    sets(logits) is booleans of the shape of the logits. A set may be empty: no class is then likely
    enough. Fit the threshold by `fit_threshold_sets`.

    Args:
        threshold: In nats; infinite for sets of all classes.
    """
    checks.number("threshold_sets threshold", threshold, "[-inf, inf]")

    def sets(logits: Logits) -> Array:
        log_p = jax.nn.log_softmax(read_logits("threshold_sets", logits))  # (n, ..., classes)
        return -log_p <= trees.knob(threshold, log_p)

    return sets


def fit_threshold_sets(
    logits: Logits,
    labels: Labels,
    alpha: Number,
) -> PredictionSets:
    """Fit conformal sets of classes by a threshold of the probability (LAC).

    The score is -log p_y, which orders as 1 - p_y does, also where p_y is tiny. The sets hold the
    true class of a share of at least 1 - α of other examples, on average over all of them; easy
    classes have more and hard ones less. They are the smallest sets on average if the probabilities
    are right [Sadinle et al. 2019, arXiv:1609.00451]. For α < 1 / (n + 1) they hold all classes.

    Args:
        logits: (n, ..., classes), of examples that neither training nor calibration has used; or of
            one output, (n, 1) or (n,).
        labels: Integers (n, ...), or probabilities, whose largest counts.
        alpha: Share of examples that may be missed, in (0, 1).

    Returns:
        `threshold_sets(threshold)`, which maps logits to booleans.

    Raises:
        ConfigError: `alpha` is outside of (0, 1).
        FnnError: As `fit_temperature`.
    """
    checks.number("fit_threshold_sets alpha", alpha, "(0, 1)")
    z, truth = read_examples("fit_threshold_sets", logits, labels)
    # Of every class, (n, classes); the fit uses that of the true one.
    scores = -jax.nn.log_softmax(z)
    return threshold_sets(conformal_quantile(_at_truth(scores, truth), alpha))


@maker
def adaptive_sets(
    threshold: Number,
    *,
    randomized: bool = True,
    penalty: Number = 0.0,
    free: Number = 0.0,
) -> PredictionSets:
    """Sets of the most likely classes, up to a sum of probabilities (APS, RAPS).

    The score of a class is the sum of the probabilities of the more likely ones, plus u times its
    own, plus penalty * max(rank - free, 0), where the rank of the most likely class is 1. u is
    uniform in [0, 1), one number for each example, if the sets are randomized, else 1. The set has
    the classes whose score is at most the threshold. sets(logits, key=key) is booleans of the
    shape of the logits. Fit the threshold by `fit_adaptive_sets`.

    Args:
        threshold: Of the score; infinite for sets of all classes.
        randomized: Whether u is drawn. Then a call needs a key, and a set may be empty.
        penalty: Added for each rank beyond `free`, >= 0: smaller sets for hard examples.
        free: Number of ranks without a penalty, >= 0.
    """
    checks.number("adaptive_sets threshold", threshold, "[-inf, inf]")
    checks.flag("adaptive_sets randomized", randomized)
    checks.number("adaptive_sets penalty", penalty, "[0, inf)")
    checks.number("adaptive_sets free", free, "[0, inf)")

    def sets(logits: Logits, *, key: RandomKey | None = None) -> Array:
        z = read_logits("adaptive_sets", logits)
        # One u for each example, common to all of its classes.
        draws = _draws(
            "adaptive_sets",
            key,
            z.shape[:-1],
            z.dtype,
            randomized,
        )
        scores = _adaptive_scores(z, draws, penalty, free)
        return scores <= trees.knob(threshold, scores)

    return sets


def fit_adaptive_sets(
    logits: Logits,
    labels: Labels,
    alpha: Number,
    *,
    key: RandomKey | None = None,
    penalty: Number = 0.0,
    free: Number = 0.0,
) -> PredictionSets:
    """Fit conformal sets of classes that are larger for harder examples (APS, RAPS).

    The sets hold the true class of a share of at least 1 - α of other examples. Randomized sets
    have nearly exactly this share; others are larger. If the probabilities are right, every example
    has this share [Romano et al. 2020, arXiv:2006.02544; with a penalty Angelopoulos et al. 2021,
    arXiv:2009.14193]. For α < 1 / (n + 1) they hold all classes.

    Args:
        logits: As for `fit_threshold_sets`.
        labels: As for `fit_threshold_sets`.
        alpha: Share of examples that may be missed, in (0, 1).
        key: Key of the draws u of the scores, for randomized sets; None for u = 1.
        penalty: As for `adaptive_sets`; 0 for APS. Choose it before, not by these data.
        free: As for `adaptive_sets`.

    Returns:
        `adaptive_sets(threshold, ...)`, which maps logits and a key to booleans.

    Raises:
        ConfigError: `alpha` is outside of (0, 1), or `penalty` or `free` is negative.
        FnnError: As `fit_temperature`.
    """
    checks.number("fit_adaptive_sets alpha", alpha, "(0, 1)")
    checks.number("fit_adaptive_sets penalty", penalty, "[0, inf)")
    checks.number("fit_adaptive_sets free", free, "[0, inf)")
    z, truth = read_examples("fit_adaptive_sets", logits, labels)
    # The threshold holds for scores of the same distribution, so u is drawn here too.
    draws = _draws(
        "fit_adaptive_sets",
        key,
        truth.shape,
        z.dtype,
        key is not None,
    )
    scores = _adaptive_scores(z, draws, penalty, free)
    return adaptive_sets(
        conformal_quantile(_at_truth(scores, truth), alpha),
        randomized=key is not None,
        penalty=penalty,
        free=free,
    )


def _draws(
    where: str,
    key: RandomKey | None,
    shape: tuple[int, ...],
    dtype: Any,
    randomized: bool,
) -> Array:
    if not randomized:
        # u = 1 counts a class in full: the sets are then larger than necessary.
        return jnp.ones(shape, dtype)
    return jax.random.uniform(checks.key(f"{where} key", key), shape, dtype)


@jax.jit
def _adaptive_scores(
    z: Array,
    draws: Array,
    penalty: Number,
    free: Number,
) -> Array:
    """Return the score of each class, (..., classes)."""
    # From the most to the least likely class, (..., classes).
    order = jnp.argsort(-z, -1)
    p = jax.nn.softmax(jnp.take_along_axis(z, order, -1))
    # An exclusive sum, without the class itself.
    more_likely = jnp.cumsum(p, -1) - p
    # The number of ranks beyond `free`, (classes,).
    beyond = jax.nn.relu(jnp.arange(1, z.shape[-1] + 1, dtype=p.dtype) - trees.knob(free, p))
    # (classes,) -> (1, ..., 1, classes)
    regular = (trees.knob(penalty, p) * beyond).reshape((1,) * (z.ndim - 1) + (-1,))
    # ρ + u π + λ (o - k_reg)⁺ in the notation of Angelopoulos et al. 2021.
    ranked = more_likely + draws[..., None] * p + regular
    # Back to the order of the classes.
    # The argsort of a permutation is its inverse.
    return jnp.take_along_axis(ranked, jnp.argsort(order, -1), -1)


def _at_truth(scores: Array, truth: Array) -> Array:
    """Return the score of the true class; NaN for a label that is not a class."""
    # (n, classes), (n, 1) -> (n,)
    # A label that is not a class reads any entry, which NaN replaces below.
    own = jnp.take_along_axis(scores, truth[:, None], -1, mode="clip")[:, 0]
    return jnp.where(truth == UNKNOWN, jnp.nan, own)
