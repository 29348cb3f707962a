"""Plots of halving and populations: a line for each trial, marks where they stop or copy."""

from types import SimpleNamespace

import numpy as np
import pytest

from fnn import lab
from fnn.errors import ConfigError
from fnn.lab.plots.rungs import BEST
from fnn.search import HalvingTrials, Population, brackets
from fnn.search.score import Score

PLAN = brackets(9)
BRACKET = np.repeat([0, 1, 2], [9, 5, 3])


def halving_trials():
    """Trials whose loss is index + 1 / epoch, of which one diverged."""
    epochs = np.array([9, 3, 3, *[1] * 6, 9, *[3] * 4, 9, 9, 9])
    losses = np.arange(17.0)[:, None] + 1 / np.arange(1, 10)
    losses = np.where(np.arange(9) < epochs[:, None], losses, np.nan)
    losses[8, 0] = np.nan
    scores = losses[np.arange(17), epochs - 1][:, None]
    return HalvingTrials(
        space=None,
        recipes=[None] * 17,
        hyperparameters={},
        scores=scores,
        histories={"valid_loss": losses[:, None]},
        epochs=epochs,
        figure=Score(),
        kept={},
        brackets=PLAN,
        bracket=BRACKET,
    )


def population():
    return Population(
        space=None,
        recipes=[None] * 2,
        hyperparameters={},
        scores=np.array([[0.5], [0.1]]),
        histories={},
        epochs=np.array([6, 6]),
        figure=Score(),
        kept={},
        rounds={"rate": np.array([[0.1, 0.2], [0.1, 0.12], [0.1, 0.12]])},
        parents=np.array([[0, 1], [0, 0], [0, 1]]),
        round_scores=np.array([[0.7, 0.9], [0.6, 0.4], [0.5, 0.1]]),
        interval=2,
        lanes=2,
    )


def test_each_bracket_is_a_panel_and_each_trial_a_line(tmp_path):
    panels = lab.plot_rungs(halving_trials(), tmp_path / "rungs.png").axes
    assert [axes.get_title() for axes in panels] == [
        "9 → 3 → 1 trials", "5 → 1 trials", "3 trials"
    ]  # fmt: skip
    for axes, bracket in zip(panels, PLAN, strict=True):
        curves = [line for line in axes.lines if line.get_marker() == "None"]
        assert len(curves) == bracket.trials
        assert set(axes.get_xticks()) >= {rung.epochs for rung in bracket.rungs}
    assert [axes.get_ylim() for axes in panels] == [panels[0].get_ylim()] * 3
    crosses = [line for line in panels[0].lines if line.get_marker() == "x"]
    assert [line.get_xdata().tolist() for line in crosses] == [[1]]
    best = [line for axes in panels for line in axes.lines if line.get_color() == BEST]
    np.testing.assert_allclose(best[0].get_ydata(), 1 / np.arange(1, 10))
    assert (tmp_path / "rungs.png").exists()


def test_the_line_of_descent_of_the_best_member_is_marked():
    score, rate = lab.plot_population(population()).axes
    assert (score.get_ylabel(), rate.get_ylabel()) == ("valid_loss", "rate")
    (line,) = [line for line in rate.lines if line.get_color() == BEST]
    np.testing.assert_array_equal(line.get_xdata(), [2, 4, 6])
    np.testing.assert_array_equal(line.get_ydata(), [0.1, 0.12, 0.12])
    copies = [line for line in rate.lines if line.get_linestyle() == ":"]
    assert [list(line.get_ydata()) for line in copies] == [[0.1, 0.12]]


@pytest.mark.parametrize("plot", [lab.plot_rungs, lab.plot_population])
def test_other_results_raise(plot):
    with pytest.raises(ConfigError, match="expected"):
        plot(SimpleNamespace())
