"""The risk-coverage curve against brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import ensemble
from fnn.errors import DTypeError, NonFiniteError, ShapeError


def area(losses):
    """Trapezoids between the coverages 1/n and 1, over that length."""
    n = len(losses)
    risks = np.cumsum(losses) / np.arange(1, n + 1)
    return np.trapezoid(risks, np.arange(1, n + 1) / n) / (1 - 1 / n)


def test_the_area_is_that_of_torch_uncertainty():
    """Their documented example: confidences .7, .6, .8, of which .6 is wrong."""
    found = ensemble.risk_coverage(jnp.array([-0.7, -0.6, -0.8]), jnp.array([False, True, False]))
    np.testing.assert_allclose(found.area, 0.0833, atol=1e-4)
    np.testing.assert_allclose(found.risk, [0, 0, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(found.coverage, [1 / 3, 2 / 3, 1], rtol=1e-6)


def test_the_curve_is_that_of_sorted_examples():
    draw = np.random.default_rng(0)
    scores, losses = draw.normal(size=50).astype(np.float32), draw.random(50)
    found = jax.jit(ensemble.risk_coverage)(scores, losses)
    ordered = losses[scores.argsort()]
    np.testing.assert_allclose(found.area, area(ordered), rtol=1e-5)
    np.testing.assert_array_equal(found.threshold, np.sort(scores))
    for index in (0, 20, 49):
        accepted = scores <= found.threshold[index]
        np.testing.assert_allclose(found.risk[index], losses[accepted].mean(), rtol=1e-5)
    lanes = jax.vmap(ensemble.risk_coverage)(scores[None], losses[None])
    np.testing.assert_allclose(lanes.area[0], found.area, rtol=1e-6)
    assert str(lanes) == "RiskCoverage(float32[1])"
    best = ensemble.risk_coverage(np.float32(losses), losses).area
    assert best <= found.area and str(found).startswith("RiskCoverage(area 0.")


def test_ties_are_the_mean_over_their_orders():
    losses = np.array([1.0, 0, 0, 1, 0])
    scores = jnp.array([1.0, 1, 1, 2, 2])
    orders = [
        [*first, *second]
        for first in itertools.permutations([1.0, 0, 0])
        for second in itertools.permutations([1.0, 0])
    ]
    found = ensemble.risk_coverage(scores, losses)
    np.testing.assert_allclose(found.area, np.mean([area(order) for order in orders]), rtol=1e-6)


ERRORS = {
    "shape": (jnp.ones((3, 2)), jnp.ones(3), ShapeError, r"scores: expected \(n,\)"),
    "one": (jnp.ones(1), jnp.ones(1), ShapeError, "two examples or more"),
    "losses": (
        jnp.ones(3),
        jnp.ones(2),
        ShapeError,
        r"losses: expected one for each score, \(3,\)",
    ),
    "integers": (jnp.ones(3, int), jnp.ones(3), DTypeError, "scores: expected floating"),
    "nan": (jnp.array([1, jnp.nan]), jnp.ones(2), NonFiniteError, "scores: expected numbers"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    scores, losses, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        ensemble.risk_coverage(scores, losses)
