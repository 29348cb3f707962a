"""Plots of reliability diagrams and risk-coverage curves."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import lab
from fnn.ensemble import Reliability, RiskCoverage
from fnn.errors import ConfigError

TABLE = Reliability(
    low=jnp.array([0.0, 0.25, 0.5, 0.75]),
    high=jnp.array([0.25, 0.5, 0.75, 1.0]),
    examples=jnp.array([0.0, 2, 2, 4]),
    confidence=jnp.array([jnp.nan, 0.4, 0.7, 0.9]),
    accuracy=jnp.array([jnp.nan, 0.5, 0.5, 0.75]),
)
MASS = Reliability(
    low=jnp.array([0.3, jnp.inf, 0.6]),
    high=jnp.array([0.5, -jnp.inf, 0.9]),
    examples=jnp.array([5.0, 0, 3]),
    confidence=jnp.array([0.4, jnp.nan, 0.8]),
    accuracy=jnp.array([0.4, jnp.nan, 0.8]),
)
CURVE = RiskCoverage(
    coverage=jnp.array([0.25, 0.5, 0.75, 1]),
    risk=jnp.array([0.0, 0, 1 / 3, 0.5]),
    threshold=jnp.arange(4.0),
    area=jnp.array(0.125),
)


def test_bins_with_examples_are_points_and_all_are_steps(tmp_path):
    figure = lab.plot_reliability(TABLE, tmp_path / "reliability.png")
    upper, lower = figure.axes
    assert (tmp_path / "reliability.png").exists()
    diagonal, points = upper.lines
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    np.testing.assert_allclose(points.get_xdata(), [0.4, 0.7, 0.9])
    np.testing.assert_allclose(points.get_ydata(), [0.5, 0.5, 0.75])
    assert points.get_label() == "error 0.15"
    # Wilson's interval of 1 of 2, and 3 of 4.
    (bars,) = upper.collections
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(ends[1], [0.0945, 0.9055], atol=1e-3)
    np.testing.assert_allclose(ends[2], [0.3006, 0.9544], atol=1e-3)
    (steps,) = lower.patches
    np.testing.assert_allclose(steps.get_data().values, [0, 0.25, 0.25, 0.5])
    assert (upper.get_ylabel(), lower.get_xlabel()) == ("accuracy", "confidence")


def test_several_tables_have_names():
    upper, lower = lab.plot_reliability({"before": TABLE, "after": MASS}).axes
    labels = [line.get_label() for line in upper.lines]
    assert labels == ["calibrated", "before: error 0.15", "after: error 0"]
    np.testing.assert_allclose(lower.patches[1].get_data().edges, [0.3, 0.6, 0.9])


def test_curves_of_risk_have_their_area(tmp_path):
    figure = lab.plot_risk_coverage({"energy": CURVE, "entropy": CURVE}, tmp_path / "risk.svg")
    (axes,) = figure.axes
    assert (tmp_path / "risk.svg").exists()
    for line, name in zip(axes.lines, ("energy", "entropy"), strict=True):
        np.testing.assert_allclose(line.get_ydata(), CURVE.risk)
        assert line.get_label() == f"{name}: area 0.125"
    assert axes.get_xlabel().startswith("coverage") and axes.get_ylabel().startswith("risk")


@pytest.mark.parametrize("plot", [lab.plot_reliability, lab.plot_risk_coverage])
def test_anything_else_raises(plot):
    for wrong in ([1, 2], {}, {"a": 1.0}):
        with pytest.raises(ConfigError, match=f"{plot.__name__}: expected a R"):
            plot(wrong)
