"""Conformal intervals: exact coverage, the formulas, and clear errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import ensemble
from fnn.errors import ConfigError, DTypeError, ShapeError

REPEATS = 3000


def regression(n, seed=0):
    draw = np.random.default_rng(seed)
    deviations = np.float32(0.5 + draw.random(n))
    centers = np.float32(draw.normal(size=n))
    return centers, np.float32(centers + deviations * draw.normal(size=n)), deviations


@pytest.mark.parametrize("method", ["residual", "normalized", "quantile"])
def test_intervals_have_exact_coverage(method):
    n = 19
    arrays = regression((n + 1) * REPEATS)
    arrays = tuple(array.reshape(REPEATS, n + 1) for array in arrays)

    def once(centers, targets, deviations):
        ends = jnp.stack([centers - deviations, centers + deviations], -1)
        if method == "residual":
            intervals = ensemble.fit_residual_intervals(centers[:n], targets[:n], 0.2)
            low, high = intervals(centers[n:])
        elif method == "normalized":
            intervals = ensemble.fit_residual_intervals(
                centers[:n], targets[:n], 0.2, deviations=deviations[:n]
            )
            low, high = intervals(centers[n:], deviations[n:])
        else:
            intervals = ensemble.fit_quantile_intervals(ends[:n], targets[:n], 0.2)
            low, high = intervals(ends[n:])
        return (low[0] <= targets[n]) & (targets[n] <= high[0])

    hits = np.mean(jax.jit(jax.vmap(once))(*arrays))
    assert abs(hits - 0.8) < 4 * np.sqrt(0.8 * 0.2 / REPEATS)


def test_quantiles_in_the_wrong_order_raise_and_a_few_that_cross_warn():
    centers, targets, _ = regression(40)
    ends = jnp.stack([centers - 1, centers + 1], -1)
    with pytest.raises(ConfigError, match="quantiles: expected low <= high, got 40 of 40 that"):
        ensemble.fit_quantile_intervals(ends[:, ::-1], targets, 0.1)
    crossed = ends.at[:2].set(ends[:2, ::-1])
    with pytest.warns(UserWarning, match="got 2 of 40 that cross; sort both"):
        ensemble.fit_quantile_intervals(crossed, targets, 0.1)
    # Equal ends are the median, and traced ones are not known.
    ensemble.fit_quantile_intervals(jnp.stack([centers, centers], -1), targets, 0.1)
    jax.jit(lambda ends: ensemble.fit_quantile_intervals(ends, targets, 0.1)(ends))(crossed)


def test_intervals_are_the_formulas():
    centers, targets, _ = regression(99)
    residuals = np.sort(abs(targets - centers))[89]
    low, high = ensemble.fit_residual_intervals(centers, targets, 0.1)(centers)
    np.testing.assert_allclose(high - low, 2 * residuals, rtol=1e-4)
    wide = np.stack([centers - 10, centers + 10], -1)
    intervals = ensemble.fit_quantile_intervals(wide, targets[:, None], 0.1)
    np.testing.assert_allclose(intervals["margin"], residuals - 10, rtol=1e-4)
    both = np.stack([centers, 2 * centers], -1)
    of_each = ensemble.fit_residual_intervals(both, np.stack([targets, 2 * targets], -1), 0.1)
    np.testing.assert_allclose(of_each["half_width"], [residuals, 2 * residuals], rtol=1e-4)
    assert of_each(both).low.shape == (99, 2)


CENTERS, TARGETS, DEVIATIONS = regression(9)
ERRORS = {
    "percent": (
        lambda: ensemble.fit_residual_intervals(CENTERS, TARGETS, 10),
        ConfigError,
        r"fit_residual_intervals alpha: expected a number in \(0, 1\)",
    ),
    "targets": (
        lambda: ensemble.fit_residual_intervals(CENTERS, TARGETS[:3], 0.2),
        ShapeError,
        r"fit_residual_intervals targets: expected the predictions' shape \(9,\)",
    ),
    "deviations": (
        lambda: ensemble.fit_residual_intervals(CENTERS, TARGETS, 0.2, deviations=0 * DEVIATIONS),
        DTypeError,
        "fit_residual_intervals deviations: expected numbers > 0",
    ),
    "quantiles": (
        lambda: ensemble.fit_quantile_intervals(CENTERS, TARGETS, 0.2),
        ShapeError,
        r"fit_quantile_intervals quantiles: expected \(n, 2\)",
    ),
    "outputs": (
        lambda: ensemble.residual_intervals(jnp.ones(2))(CENTERS),
        ShapeError,
        r"residual_intervals predictions: expected \(n, 2\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
