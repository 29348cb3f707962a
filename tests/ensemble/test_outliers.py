"""Scores of unusual inputs against their formulas and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from fnn import ensemble, objective
from fnn.ensemble.outliers import METHODS
from fnn.errors import ConfigError, DTypeError, LabelError, NonFiniteError, ShapeError

draw = np.random.default_rng(0)
LOGITS = np.float32(3 * draw.normal(size=(60, 4)))
P = softmax(np.float64(LOGITS), -1)
FORMULAS = {
    "max_probability": -np.log(P.max(-1)),
    "entropy": -(P * np.log(P)).sum(-1),
    "max_logit": -LOGITS.max(-1),
    "energy": -logsumexp(np.float64(LOGITS), -1),
}


@pytest.mark.parametrize("method", FORMULAS)
def test_the_scores_are_the_formulas(method):
    np.testing.assert_allclose(
        ensemble.outlier_scores(LOGITS, method=method), FORMULAS[method], rtol=2e-5, atol=1e-7
    )


@pytest.mark.parametrize("method", METHODS)
def test_unsure_predictions_score_higher(method):
    sure = jnp.array([[[9.0, 0, 0], [1, 0, 0]], [[9.0, 1, 0], [0, 1, 0]]])
    logits = sure if method == "mutual_information" else sure[0]
    usual, unusual = ensemble.outlier_scores(logits, method=method)
    assert unusual > usual
    flatter = ensemble.outlier_scores(logits, method=method, temperature=2.0)
    assert flatter.shape == (2,) and flatter[1] > flatter[0]


@pytest.mark.slow
def test_the_area_under_the_curve_is_that_of_scikit_learn():
    scores = ensemble.outlier_scores(LOGITS)
    is_unusual = (scores + draw.normal(size=60) > scores.mean()).astype(int)
    np.testing.assert_allclose(
        objective.roc_auc()(scores, is_unusual), roc_auc_score(is_unusual, scores), rtol=1e-6
    )


FEATURES = np.float32(draw.normal(size=(90, 5)) @ draw.normal(size=(5, 5)) + 10)
LABELS = draw.integers(0, 3, 90)


@pytest.mark.parametrize("shrinkage", [None, 0.0, 0.4])
def test_the_distance_is_that_of_mahalanobis(shrinkage):
    f = np.float64(FEATURES)
    means = np.stack([f[label == LABELS].mean(0) for label in range(3)])
    residuals = f - means[LABELS]
    empirical = residuals.T @ residuals / 90
    if shrinkage is None:
        covariance, _ = ledoit_wolf(residuals, assume_centered=True)
    else:
        covariance = (1 - shrinkage) * empirical + shrinkage * np.trace(empirical) / 5 * np.eye(5)
    moved = f[:, None] - means
    wanted = np.einsum("ncd,de,nce->nc", moved, np.linalg.inv(covariance), moved).min(1)
    score = ensemble.fit_mahalanobis(FEATURES, LABELS, shrinkage=shrinkage)
    np.testing.assert_allclose(score(FEATURES), wanted, rtol=2e-3)
    assert eval(repr(score), {"ensemble": ensemble, "jax": jax}) == score


def test_features_that_are_always_0_need_shrinkage():
    dead = np.concatenate([FEATURES, np.zeros((90, 1), np.float32)], 1)
    assert np.isfinite(ensemble.fit_mahalanobis(dead, LABELS)(dead)).all()
    with pytest.raises(
        NonFiniteError, match=r"fit_mahalanobis features: .* give a larger shrinkage"
    ):
        ensemble.fit_mahalanobis(dead, LABELS, shrinkage=0.0)


def test_the_distance_to_neighbors_is_that_of_scikit_learn():
    unit = np.float64(FEATURES) / np.linalg.norm(np.float64(FEATURES), axis=1, keepdims=True)
    wanted = NearestNeighbors(n_neighbors=7).fit(unit[:50]).kneighbors(unit[50:])[0][:, -1]
    score = ensemble.neighbor_distance(FEATURES[:50], 7)
    np.testing.assert_allclose(jax.jit(score)(FEATURES[50:]), wanted, atol=1e-3)


ERRORS = {
    "method": (
        lambda: ensemble.outlier_scores(LOGITS, method="odin"),
        ConfigError,
        "outlier_scores method: expected one of max_probability",
    ),
    "members": (
        lambda: ensemble.outlier_scores(LOGITS, method="mutual_information"),
        ShapeError,
        r"outlier_scores logits: expected \(members, n",
    ),
    "probabilities": (
        lambda: ensemble.outlier_scores(jax.nn.softmax(LOGITS)),
        DTypeError,
        "outlier_scores logits: expected logits",
    ),
    "features": (
        lambda: ensemble.fit_mahalanobis(FEATURES[:, None], LABELS),
        ShapeError,
        r"fit_mahalanobis features: expected \(n, d\), got \(90, 1, 5\); flatten",
    ),
    "labels": (
        lambda: ensemble.fit_mahalanobis(FEATURES, LABELS * 2),
        LabelError,
        "fit_mahalanobis labels: expected each class from 0 to 4, got no example of class 1",
    ),
    "shrinkage": (
        lambda: ensemble.fit_mahalanobis(FEATURES, LABELS, shrinkage=2.0),
        ConfigError,
        r"fit_mahalanobis shrinkage: expected a number in \[0, 1\]",
    ),
    "width": (
        lambda: ensemble.fit_mahalanobis(FEATURES, LABELS)(FEATURES[:, :3]),
        ShapeError,
        r"mahalanobis features: expected \(n, 5\)",
    ),
    "neighbors": (
        lambda: ensemble.neighbor_distance(FEATURES, 91)(FEATURES),
        ShapeError,
        "neighbor_distance features: expected at least k=91 examples",
    ),
    "traced": (
        lambda: jax.jit(ensemble.fit_mahalanobis)(FEATURES, LABELS),
        DTypeError,
        "fit_mahalanobis labels: expected known numbers",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()


def test_features_may_be_traced_where_labels_are_known():
    def scores(f):
        return ensemble.fit_mahalanobis(f, LABELS)(f)

    np.testing.assert_allclose(jax.jit(scores)(FEATURES), scores(FEATURES), rtol=1e-4)
