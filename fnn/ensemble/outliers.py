"""Scores of unusual inputs. All are higher for more unusual ones."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks, trees
from fnn.ensemble.logits import read_logits
from fnn.ensemble.uncertainty import entropy, entropy_decomposition
from fnn.errors import DTypeError, LabelError, NonFiniteError, ShapeError
from fnn.objective.targets import as_int32, expect_floats, expect_integers
from fnn.train.evaluate import map_batches
from fnn.types import Labels, Number, PerExample
from fnn.values import maker

METHODS = ("max_probability", "entropy", "max_logit", "energy", "mutual_information")
ROWS = 256  # examples whose distances are computed at once

# features (n, d) -> scores (n,)
OutlierScore = Callable[[Array], Array]


def outlier_scores(
    logits: Any,
    *,
    method: str = "energy",
    temperature: Number = 1.0,
) -> PerExample:
    """Score how unusual an input is by the logits of a classifier; higher is more unusual.

    | method | score |
    |---|---|
    | max_probability | -log max_c p_c, in the order of -max p |
    | entropy | -Σ_c p_c log p_c |
    | max_logit | -max_c z_c |
    | energy | -T log Σ_c exp(z_c / T) |
    | mutual_information | Σ_m KL(p_m ‖ mean p) / M, of logits with a first axis of members |

    The area under the ROC curve of unusual against usual inputs is
    objective.roc_auc()(scores, is_unusual) [Hendrycks & Gimpel 2017, arXiv:1610.02136; Hendrycks
    et al. 2022, arXiv:1911.11132; Liu et al. 2020, arXiv:2010.03759].

    Args:
        logits: (n, ..., classes); or of one output (n, ..., 1). For the mutual information
            (members, n, ..., classes).
        method: One of the table.
        temperature: T > 0, by which the logits are divided; for the energy, it is a factor too.

    Returns:
        (n, ...).

    Raises:
        ConfigError: `method` is not in the table, or `temperature` is not > 0.
        DTypeError: The logits are not floats, or are probabilities.
        ShapeError: The logits have another rank.
    """
    checks.choice("outlier_scores method", method, METHODS)
    checks.number("outlier_scores temperature", temperature, "(0, inf)")
    # Only this score compares members; all others take combined logits.
    has_members = method == "mutual_information"
    z = read_logits("outlier_scores", logits, members=has_members)
    return _score(z, jnp.asarray(temperature, z.dtype), method)


@partial(jax.jit, static_argnums=2)
def _score(
    z: Array,
    t: Array,
    method: str,
) -> PerExample:
    if method == "mutual_information":
        return entropy_decomposition(z / t).epistemic
    if method == "max_logit":
        return -z.max(-1) / t
    if method == "energy":
        # The free energy of Liu et al. 2020, -T log of the density up to a constant.
        return -t * jax.nn.logsumexp(z / t, axis=-1)
    if method == "entropy":
        return entropy(z / t)
    # It orders examples as -max p does.
    return -jax.nn.log_softmax(z / t).max(-1)


@maker
def mahalanobis(means: Array, whitening: Array) -> OutlierScore:
    """Squared Mahalanobis distance to the nearest class, min_c |W (f - mean_c)|².

    scores = mahalanobis(...)(features) is higher for more unusual features. Fit it by
    `fit_mahalanobis`.

    Args:
        means: Of the classes, (classes, d).
        whitening: W (d, d), where Wᵀ W is the inverse of the covariance.

    Raises:
        DTypeError: An array does not hold floats.
        ShapeError: The shapes do not fit; or, when called, the features are not (n, d).
    """
    expect_floats("mahalanobis means", means)
    expect_floats("mahalanobis whitening", whitening)
    if means.ndim != 2 or whitening.shape != 2 * means.shape[1:]:
        raise ShapeError(
            "mahalanobis whitening",
            f"(d, d) for means (classes, d) {means.shape}",
            whitening.shape,
            "use fit_mahalanobis",
        )

    def score(features: Array) -> Array:
        f = _features("mahalanobis", features)
        if f.shape[1] != means.shape[1]:
            _raise_width("mahalanobis", means.shape[1], f)

        def distance(mean: Array) -> Array:
            factor = whitening.astype(f.dtype).T
            # (n, d) @ (d, d) -> (n, d), each row W (f - mean)
            moved = jnp.matmul(f - mean[None], factor, precision=jax.lax.Precision.HIGHEST)
            return jnp.square(moved).sum(-1)  # (n,)

        # One class after another, so that memory holds one difference (n, d).
        # (classes, d) -> (classes, n) -> (n,)
        return jax.lax.map(distance, means.astype(f.dtype)).min(0)

    return score


def fit_mahalanobis(
    features: Any,
    labels: Labels,
    *,
    shrinkage: Number | None = None,
) -> OutlierScore:
    """Fit class means and one covariance of features, for Mahalanobis distances.

    The covariance of the differences to the class means is shrunk: (1 - s) S + s tr(S) / d I. So it
    is invertible, also for features that are always 0 or fewer examples than features
    [Lee et al. 2018, arXiv:1807.03888; shrinkage Ledoit & Wolf 2004, JMVA 88].

    Args:
        features: Of training examples, (n, d).
        labels: Their classes, integers (n,); every class from 0 to the largest must occur.
        shrinkage: s in [0, 1]; None for the estimate of Ledoit and Wolf.

    Returns:
        `mahalanobis(means, whitening)`, which maps features to scores.

    Raises:
        ConfigError: `shrinkage` is outside of [0, 1].
        DTypeError: The features are not floats, or the labels are not integers or are traced.
        LabelError: A class has no example, or a label is negative.
        NonFiniteError: The covariance is singular, or a feature is not finite.
        ShapeError: The shapes do not fit.
    """
    where = "fit_mahalanobis"
    if shrinkage is not None:
        checks.number(f"{where} shrinkage", shrinkage, "[0, 1]")
    f = _features(where, features)
    expect_integers(f"{where} labels", labels, f.shape[:1])
    # It is the length of an array, so the labels must be known.
    classes = _number_of_classes(where, labels)
    truth = as_int32(jnp.asarray(labels))
    means, whitening = _fit_whitening(f, truth, classes, shrinkage)
    if checks.is_concrete(whitening) and not bool(jnp.isfinite(whitening).all()):
        raise NonFiniteError(
            f"{where} features",
            "finite numbers whose covariance can be inverted",
            "others",
            "give a larger shrinkage, or leave it out",
        )
    return mahalanobis(means, whitening)


@partial(jax.jit, static_argnums=2)
def _fit_whitening(
    f: Array,
    truth: Array,
    classes: int,
    shrinkage: Number | None,
) -> tuple[Array, Array]:
    """Return the means of the classes and the inverse root of the covariance."""
    counts = jnp.zeros(classes, f.dtype).at[truth].add(1)  # (classes,)
    totals = jnp.zeros((classes, f.shape[1]), f.dtype).at[truth].add(f)  # (classes, d)
    means = totals / counts[:, None]
    # About the mean of the own class: all classes share one covariance, (n, d).
    residuals = f - means[truth]
    size = jnp.sqrt(jnp.square(residuals).mean())
    # To variance 1 on average, so that products of small numbers do not vanish.
    residuals = residuals / jnp.where(size > 0, size, 1)
    empirical = _covariance(residuals)
    share = _ledoit_wolf(residuals, empirical) if shrinkage is None else shrinkage
    s = jnp.asarray(share, f.dtype)
    identity = jnp.eye(f.shape[1], dtype=f.dtype)
    # Toward a multiple of the identity that has the same trace.
    covariance = (1 - s) * empirical + s * jnp.trace(empirical) / f.shape[1] * identity
    # S = L Lᵀ, so that W = L⁻¹ fulfills Wᵀ W = S⁻¹. Then back to the units of the features.
    root = jnp.linalg.cholesky(covariance)
    return means, jax.scipy.linalg.solve_triangular(root, identity, lower=True) / size


def _covariance(residuals: Array) -> Array:
    # (d, n) @ (n, d) -> (d, d)
    product = jnp.matmul(residuals.T, residuals, precision=jax.lax.Precision.HIGHEST)
    return product / len(residuals)


def _ledoit_wolf(x: Array, empirical: Array) -> Array:
    """Return the shrinkage of least expected squared error, for centered x (n, d)."""
    n, d = x.shape
    # The target of the shrinkage is this number times the identity.
    mean_variance = jnp.trace(empirical) / d
    # ‖x xᵀ‖² of an example is |x|⁴.
    fourth = jnp.square(jnp.square(x).sum(-1)).sum() / n
    # The squared Frobenius norm of S.
    norm = jnp.square(empirical).sum()
    # b̄² of the paper: the sampling variance of S, with norms divided by d.
    noise = (fourth - norm) / (n * d)
    # d² of the paper: the squared distance of S from the target.
    spread = (norm - d * jnp.square(mean_variance)) / d
    # b² / d² with b² = min(b̄², d²); without a spread S is the target.
    return jnp.where(spread > 0, jnp.minimum(noise, spread) / spread, 1)


@maker
def neighbor_distance(features: Array, k: int) -> OutlierScore:
    """Distance to the k-th nearest of known features, all of length 1.

    scores = neighbor_distance(known, k)(features) is higher for more unusual features, and at most
    2. It assumes no shape of the classes [Sun et al. 2022, arXiv:2204.06507].

    Args:
        features: Of training examples, (m, d).
        k: Number of neighbors, from 1 to m.

    Raises:
        ConfigError: `k` is not a whole number >= 1.
        DTypeError: The features are not floats.
        ShapeError: The features are not (m, d), or m < k; or, when called, not (n, d).
    """
    checks.whole("neighbor_distance k", k)
    _expect_features("neighbor_distance features", features)
    if len(features) < k:
        raise ShapeError(
            "neighbor_distance features",
            f"at least k={k} examples",
            features.shape,
            "choose a smaller k",
        )

    def score(others: Array) -> Array:
        f = _features("neighbor_distance", others)
        if f.shape[1] != features.shape[1]:
            _raise_width("neighbor_distance", features.shape[1], f)
        directions = _unit(_features("neighbor_distance", features))  # (m, d)

        def distances(index: Any, rows: Array) -> Array:
            # (rows, d) @ (d, m) -> (rows, m)
            cosines = jnp.matmul(
                _unit(rows), directions.astype(rows.dtype).T, precision=jax.lax.Precision.HIGHEST
            )
            # The largest cosines are the least distances, and the last of k is the k-th.
            nearest = jax.lax.top_k(cosines, k)[0][:, -1]
            # |a - b|² = 2 - 2 cos; rounding may make it negative.
            return jnp.sqrt(jax.nn.relu(2 - 2 * nearest))

        # Batch by batch, so that memory holds ROWS times m cosines.
        return map_batches(distances, (f,), ROWS)

    return score


def _unit(f: Array) -> Array:
    length = jnp.sqrt(jnp.square(f).sum(-1, keepdims=True))
    # A vector of zeros has no direction and stays 0.
    return f / jnp.where(length > 0, length, 1)


def _features(where: str, features: Any) -> Array:
    _expect_features(f"{where} features", features)
    return jnp.asarray(features, trees.wide(features))


def _expect_features(where: str, features: Any) -> None:
    expect_floats(where, features)
    if features.ndim != 2 or not features.size:
        raise ShapeError(
            where,
            "(n, d)",
            features.shape,
            "flatten them, f.reshape(len(f), -1)",
        )


def _raise_width(where: str, width: int, f: Array) -> None:
    advice = "give features of the same layer"
    raise ShapeError(
        f"{where} features",
        f"(n, {width}) as those that were fitted",
        f.shape,
        advice,
    )


def _number_of_classes(where: str, labels: Any) -> int:
    """Return the number of classes, which sets the shape of the means."""
    if not checks.is_concrete(labels):
        advice = "fit outside of jax.jit"
        raise DTypeError(
            f"{where} labels",
            "known numbers",
            "a traced array",
            advice,
        )
    # A code such as -1 would count as the last class.
    smallest = int(labels.min())
    classes = int(labels.max()) + 1
    if smallest < 0:
        raise LabelError(
            f"{where} labels",
            ">= 0",
            smallest,
            "leave out examples without a class",
        )
    # The mean of a class without examples would be 0 / 0.
    # By NumPy, since JAX would trace known labels within jax.jit.
    counts = np.bincount(np.asarray(labels).reshape(-1), minlength=classes)
    if not (counts > 0).all():
        missing = int(counts.argmin())
        raise LabelError(
            f"{where} labels",
            f"each class from 0 to {classes - 1}",
            f"no example of class {missing}",
            "number the classes without a gap",
        )
    return classes
