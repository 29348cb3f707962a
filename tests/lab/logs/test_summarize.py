"""Summary of many runs: the best, the median, and the number of diverged runs."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import lab
from fnn.errors import ConfigError, ShapeError


def test_the_best_is_one_run_and_the_median_is_over_finite_runs():
    summary = lab.summarize_runs(
        {
            "loss": jnp.array([3.0, 1.0, jnp.nan, 2.0]),
            "accuracy": jnp.array([0.9, 0.5, 1.0, 0.6]),
            "rate": np.ones(4),
        }
    )
    expected = {
        "loss_best": 1,
        "loss_median": 2,
        "accuracy_best": 0.5,
        "accuracy_median": 0.6,
        "diverged": 1,
        "rate_best": 1,
        "rate_median": 1,
    }
    assert summary == pytest.approx(expected)
    assert all(type(value) is float for value in summary.values())


def test_the_validation_loss_decides_where_it_is_given():
    summary = lab.summarize_runs(
        {"loss": np.array([3.0, 1.0, 2.0]), "valid_loss": np.array([np.inf, 5.0, 4.0])}
    )
    assert summary["loss_best"] == 2
    assert summary["valid_loss_best"] == 4
    assert summary["diverged"] == 1


def test_a_rate_of_nan_does_not_count_as_divergence():
    summary = lab.summarize_runs({"loss": np.array([1.0, 2.0]), "rate": np.full(2, np.nan)})
    assert summary["diverged"] == 0
    assert np.isnan(summary["rate_best"])


def test_if_all_runs_diverged_the_best_is_nan():
    summary = lab.summarize_runs({"loss": np.array([np.nan, np.inf])})
    assert summary["diverged"] == 2
    assert np.isnan([summary["loss_best"], summary["loss_median"]]).all()


@pytest.mark.parametrize(("figures", "error", "message"), [
    ({"accuracy": np.ones(2)}, ConfigError, "figures: expected a loss or valid_loss, got accuracy"),
    ({}, ConfigError, "summarize_runs figures: expected a loss or valid_loss, got an empty dict"),
    ({"loss": 1.0}, ShapeError, r"runs loss: expected one number per run, \(lanes,\), .* got \(\)"),
    ({"loss": np.ones((2, 3))}, ShapeError, r"summarize_runs loss: .* got \(2, 3\)"),
    ({"loss": np.ones(0)}, ShapeError, r"summarize_runs loss: .* got \(0,\)"),
    ({"loss": np.ones(2), "rate": np.ones(3)}, ShapeError, r"summarize_runs rate: .* got \(3,\)"),
])  # fmt: skip
def test_missing_losses_and_wrong_shapes_raise(figures, error, message):
    with pytest.raises(error, match=message):
        lab.summarize_runs(figures)
