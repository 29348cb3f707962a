"""Reliability tables and decompositions of scores against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from fnn import ensemble, objective
from fnn.errors import ConfigError, DTypeError, LabelError

draw = np.random.default_rng(0)
LOGITS = np.float32(2 * draw.normal(size=(200, 3)))
LABELS = draw.integers(0, 3, 200)


def test_the_table_has_the_means_of_each_bin():
    table = ensemble.reliability(LOGITS, LABELS, bins=8)
    confidence = softmax(np.float64(LOGITS), -1).max(-1)
    right = LOGITS.argmax(-1) == LABELS
    for low, high, count, mean, accuracy in zip(*map(np.asarray, table), strict=True):
        inside = (confidence > low) & (confidence <= high)
        assert count == inside.sum()
        if count:
            np.testing.assert_allclose(mean, confidence[inside].mean(), rtol=1e-5)
            np.testing.assert_allclose(accuracy, right[inside].mean(), rtol=1e-5)
        else:
            assert np.isnan(mean) and np.isnan(accuracy)
    assert table.examples[:2].sum() == 0  # of three classes, none is below 1/3


@pytest.mark.parametrize("binning", ["width", "mass"])
def test_its_errors_are_those_of_the_metric(binning):
    table = jax.jit(lambda *data: ensemble.reliability(*data, binning=binning))(LOGITS, LABELS)
    for norm, wanted in (("mean", table.expected_error), ("max", table.max_error)):
        metric = objective.calibration_error(norm=norm, binning=binning)
        np.testing.assert_allclose(metric(LOGITS, LABELS), wanted, rtol=1e-5)
    if binning == "mass":
        assert set(np.asarray(table.examples)) <= {13, 14}
        assert (table.low <= table.confidence).all() and (table.confidence <= table.high).all()
        assert (table.low[1:] > table.high[:-1]).all()
    several = jax.tree.map(lambda part: part[None], table)
    assert str(several) == "Reliability(float32[1,15])"
    lines = str(table).split("\n")
    assert len(lines) == (table.examples > 0).sum() + 2 and lines[-1].startswith(
        "expected error 0."
    )


@pytest.mark.parametrize("binning", ["width", "mass"])
def test_the_brier_score_is_the_sum_of_its_parts(binning):
    parts = jax.jit(lambda *data: ensemble.brier_decomposition(*data, binning=binning))(
        LOGITS, LABELS
    )
    np.testing.assert_allclose(parts.score, objective.brier(LOGITS, LABELS).mean(), rtol=1e-5)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within
    np.testing.assert_allclose(total, parts.score, rtol=1e-5)
    share = np.bincount(LABELS) / 200
    np.testing.assert_allclose(parts.uncertainty, (share * (1 - share)).sum(), rtol=1e-5)


def test_forecasts_of_few_values_have_nothing_within():
    """Murphy's three terms: the probability of class 1 is 0.2 or 0.7, right in 1/4 and 3/4."""
    p = np.repeat([0.2, 0.7], [8, 4])
    y = np.array([1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0])
    parts = ensemble.brier_decomposition(jnp.log(jnp.float32(np.stack([1 - p, p], 1))), y)
    np.testing.assert_allclose(parts.within, 0, atol=1e-7)
    reliability = 2 * (8 * 0.05**2 + 4 * 0.05**2) / 12
    np.testing.assert_allclose(parts.reliability, reliability, rtol=1e-4)
    base = 5 / 12
    resolution = 2 * (8 * (0.25 - base) ** 2 + 4 * (0.75 - base) ** 2) / 12
    np.testing.assert_allclose(parts.resolution, resolution, rtol=1e-5)
    found = ensemble.nll_decomposition(jnp.log(jnp.float32(np.stack([1 - p, p], 1))), y)
    # The predictions are right with confidences 0.8 and 0.7, and accuracy 3/4.
    np.testing.assert_allclose(
        found.refinement, -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), rtol=1e-5
    )
    np.testing.assert_allclose(found.within, 0, atol=1e-6)


def test_the_log_likelihood_is_the_sum_of_its_parts():
    parts = jax.jit(ensemble.nll_decomposition)(LOGITS, LABELS)
    confidence = softmax(np.float64(LOGITS), -1).max(-1)
    right = LOGITS.argmax(-1) == LABELS
    wanted = -np.log(np.where(right, confidence, 1 - confidence)).mean()
    np.testing.assert_allclose(parts.score, wanted, rtol=1e-5)
    total = parts.calibration + parts.refinement + parts.within
    np.testing.assert_allclose(total, parts.score, rtol=1e-5)
    assert parts.calibration > 0 and parts.refinement > 0
    # Nearly sure and wrong: 1 - confidence would round to 0.
    sure = jnp.array([[40.0, 0], [40, 0]])
    assert abs(ensemble.nll_decomposition(sure, jnp.array([0, 1])).score - 20) < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_table_of_float64_is_float64():
    table = ensemble.reliability(np.float64(LOGITS), LABELS)
    assert table.confidence.dtype == jnp.float64
    wanted = objective.calibration_error()(np.float64(LOGITS), LABELS)
    np.testing.assert_allclose(table.expected_error, wanted, rtol=1e-12)


ERRORS = {
    "bins": (
        lambda: ensemble.reliability(LOGITS, LABELS, bins=0),
        ConfigError,
        "reliability bins: expected >= 1",
    ),
    "binning": (
        lambda: ensemble.brier_decomposition(LOGITS, LABELS, binning="equal"),
        ConfigError,
        "brier_decomposition binning: expected one of width, mass",
    ),
    "label": (
        lambda: ensemble.nll_decomposition(LOGITS, LABELS - 1),
        LabelError,
        "nll_decomposition labels: expected 0 <= label < 3, got -1",
    ),
    "probabilities": (
        lambda: ensemble.reliability(jax.nn.softmax(LOGITS), LABELS),
        DTypeError,
        "reliability logits: expected logits, got probabilities",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
