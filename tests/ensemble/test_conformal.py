"""Conformal sets and intervals: exact finite-sample coverage, and their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn import ensemble
from fnn.errors import ConfigError, DTypeError, LabelError, ShapeError

REPEATS = 3000


def problem(n, classes=5, seed=0):
    draw = np.random.default_rng(seed)
    logits = 2 * draw.normal(size=(n, classes))
    labels = (logits + draw.gumbel(size=logits.shape)).argmax(-1)
    # The network is too confident.
    return np.float32(2 * logits), labels


@pytest.mark.parametrize(
    "n, alpha, rank", [(9, 0.1, 9), (99, 0.05, 95), (20, 0.1, 19), (10, 0.5, 6)]
)
def test_the_quantile_is_the_score_of_this_rank(n, alpha, rank):
    scores = np.float32(np.random.default_rng(0).permutation(n) + 1)
    assert ensemble.conformal_quantile(scores, alpha) == rank
    assert jax.jit(ensemble.conformal_quantile)(scores, jnp.float32(alpha)) == rank
    assert ensemble.conformal_quantile(scores, np.float32(alpha)) == rank


def test_an_alpha_too_small_for_n_gives_infinite_sets():
    scores = jnp.arange(9.0)
    assert ensemble.conformal_quantile(scores, 0.099) == jnp.inf
    assert ensemble.conformal_quantile(scores.at[0].set(jnp.nan), 0.1) == jnp.inf
    logits, labels = problem(9)
    assert ensemble.fit_threshold_sets(logits, labels, 0.05)(logits).all()
    assert ensemble.fit_adaptive_sets(logits, labels, 0.05)(logits).all()
    intervals = ensemble.fit_residual_intervals(logits[:, 0], logits[:, 1], 0.05)
    np.testing.assert_array_equal(intervals(logits[:, 0]).high, np.inf)


def test_the_coverage_of_given_scores_follows_a_beta_distribution():
    """The scores are uniform, so that the threshold is the coverage of the next example."""
    n, alpha = 20, 0.1
    scores = np.random.default_rng(0).random((n, REPEATS)).astype(np.float32)
    coverage = ensemble.conformal_quantile(scores, alpha)
    assert stats.kstest(coverage, stats.beta(19, 2).cdf).pvalue > 0.01
    assert abs(coverage.mean() - 19 / 21) < 4 * np.std(coverage) / np.sqrt(REPEATS)


def hits_of(fit, apply):
    """Whether the next example is covered, after a fit to n = 19 others, of many resamplings."""
    n = 19
    logits, labels = problem((n + 1) * REPEATS)
    logits = logits.reshape(REPEATS, n + 1, -1)
    labels = labels.reshape(REPEATS, n + 1)

    def once(key, logits, labels):
        keys = jax.random.split(key)
        sets = fit(keys[0], logits[:n], labels[:n])
        return apply(keys[1], sets, logits[n:])[0, labels[n]]

    keys = jax.random.split(jax.random.key(0), REPEATS)
    return np.mean(jax.jit(jax.vmap(once))(keys, logits, labels))


@pytest.mark.parametrize("method", ["threshold", "adaptive", "regularized"])
def test_sets_have_exact_coverage(method):
    """P = ceil(20 · 0.8) / 20 without ties: neither less nor more."""
    options = {"penalty": 0.05, "free": 1.0} if method == "regularized" else {}

    def fit(key, logits, labels):
        if method == "threshold":
            return ensemble.fit_threshold_sets(logits, labels, 0.2)
        return ensemble.fit_adaptive_sets(logits, labels, 0.2, key=key, **options)

    def apply(key, sets, logits):
        return sets(logits) if method == "threshold" else sets(logits, key=key)

    error = np.sqrt(0.8 * 0.2 / REPEATS)
    assert abs(hits_of(fit, apply) - 0.8) < 4 * error


def test_threshold_sets_are_those_of_the_probability():
    logits, labels = problem(99)
    sets = ensemble.fit_threshold_sets(logits, labels, 0.1)
    p = np.float64(jax.nn.softmax(logits))
    threshold = np.sort(1 - p[np.arange(99), labels])[89]
    np.testing.assert_array_equal(sets(logits), 1 - p <= threshold + 1e-7)


def test_adaptive_sets_are_those_of_the_sum():
    logits, labels = problem(99)
    p = np.float64(jax.nn.softmax(logits))
    rank = (-p).argsort(-1).argsort(-1)
    ranked = -np.sort(-p, -1)
    for penalty, free in ((0.0, 0.0), (0.1, 2.0)):
        sets = ensemble.fit_adaptive_sets(logits, labels, 0.1, penalty=penalty, free=free)
        totals = ranked.cumsum(-1) + penalty * np.maximum(np.arange(1, 6) - free, 0)
        scores = np.take_along_axis(totals, rank, -1)
        threshold = np.sort(scores[np.arange(99), labels])[89]
        np.testing.assert_allclose(sets["threshold"], threshold, rtol=1e-5)
        np.testing.assert_array_equal(sets(logits), scores <= threshold + 1e-6)
    assert eval(repr(sets), {"ensemble": ensemble}) == sets


def test_one_output_and_pixels_have_sets():
    logits, labels = problem(60, 2)
    z = logits[:, 1:] - logits[:, :1]
    two = ensemble.fit_threshold_sets(logits, labels, 0.1)
    one = ensemble.fit_threshold_sets(z, labels, 0.1)
    np.testing.assert_allclose(one["threshold"], two["threshold"], rtol=1e-5)
    np.testing.assert_array_equal(one(z), two(logits))
    pixels = logits.reshape(10, 6, 2)
    assert ensemble.fit_threshold_sets(pixels, labels.reshape(10, 6), 0.1) == two
    assert two(pixels).shape == (10, 6, 2)


LOGITS, LABELS = problem(9)
ERRORS = {
    "alpha": (
        lambda: ensemble.fit_threshold_sets(LOGITS, LABELS, 1.0),
        ConfigError,
        r"fit_threshold_sets alpha: expected a number in \(0, 1\), got 1.0",
    ),
    "label": (
        lambda: ensemble.fit_threshold_sets(LOGITS, LABELS + 1, 0.2),
        LabelError,
        "fit_threshold_sets labels: expected 0 <= label < 5",
    ),
    "probabilities": (
        lambda: ensemble.fit_adaptive_sets(jax.nn.softmax(LOGITS), LABELS, 0.2),
        DTypeError,
        "fit_adaptive_sets logits: expected logits, got probabilities",
    ),
    "key": (
        lambda: ensemble.adaptive_sets(0.9)(LOGITS),
        DTypeError,
        "adaptive_sets key: expected a key",
    ),
    "no scores": (
        lambda: ensemble.conformal_quantile(jnp.ones(0), 0.1),
        ShapeError,
        "conformal_quantile scores: expected",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
