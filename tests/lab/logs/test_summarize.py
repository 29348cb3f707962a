"""Many runs told as one: the best, the median, and how many are lost."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import lab
from fnn.errors import ConfigError, ShapeError


def test_the_best_is_one_run_and_the_median_is_of_those_that_are_well():
    told = lab.summarize_runs(
        {
            "loss": jnp.array([3.0, 1.0, jnp.nan, 2.0]),
            "accuracy": jnp.array([0.9, 0.5, 1.0, 0.6]),
            "rate": np.ones(4),
        }
    )
    wanted = {
        "loss_best": 1,
        "loss_median": 2,
        "accuracy_best": 0.5,
        "accuracy_median": 0.6,
        "diverged": 1,
    }
    assert told == pytest.approx(wanted | {"rate_best": 1, "rate_median": 1})
    assert all(type(value) is float for value in told.values())


def test_the_validation_loss_judges_where_it_is_told():
    told = lab.summarize_runs(
        {"loss": np.array([3.0, 1.0, 2.0]), "valid_loss": np.array([np.inf, 5.0, 4.0])}
    )
    assert (told["loss_best"], told["valid_loss_best"], told["diverged"]) == (2, 4, 1)


def test_a_rate_that_no_optimizer_tells_is_no_divergence():
    told = lab.summarize_runs({"loss": np.array([1.0, 2.0]), "rate": np.full(2, np.nan)})
    assert told["diverged"] == 0 and np.isnan(told["rate_best"])


def test_where_all_have_diverged_nothing_is_best():
    told = lab.summarize_runs({"loss": np.array([np.nan, np.inf])})
    assert told["diverged"] == 2 and np.isnan([told["loss_best"], told["loss_median"]]).all()


@pytest.mark.parametrize(("figures", "error", "message"), [
    ({"accuracy": np.ones(2)}, ConfigError, "population figures: expected a loss to judge by, got accuracy"),
    ({}, ConfigError, "population figures: expected a loss to judge by, got none"),
    ({"loss": 1.0}, ShapeError, r"population loss: expected one number a run, \(lanes,\), for all, got \(\)"),
    ({"loss": np.ones((2, 3))}, ShapeError, r"population loss: .* got \(2, 3\)"),
    ({"loss": np.ones(0)}, ShapeError, r"population loss: .* got \(0,\)"),
    ({"loss": np.ones(2), "rate": np.ones(3)}, ShapeError, r"population rate: .* got \(3,\)"),
])  # fmt: skip
def test_mistakes_are_told(figures, error, message):
    with pytest.raises(error, match=message):
        lab.summarize_runs(figures)
