"""Plots of learning curves."""

import numpy as np
import pytest

from fnn import lab
from fnn.errors import ConfigError
from fnn.search import LearningCurve
from fnn.search.score import Score

SIZES = np.array([50, 100, 200, 210, 800])


def made(sizes):
    scores = 0.1 + 3 * sizes[:, None] ** -0.5 + np.array([0, 0.01, -0.01])
    steps = np.ones(len(sizes), int)
    return LearningCurve(sizes, scores, steps, np.zeros((3, 800), int), {}, Score())


def test_scores_law_and_interval_are_drawn(tmp_path):
    curve = made(SIZES)
    path = tmp_path / "curve.png"
    figure = lab.plot_learning_curve(curve, path, extend=4.0)
    (axes,) = figure.axes
    assert path.exists()
    points, mean, law, beyond = axes.lines
    np.testing.assert_array_equal(points.get_ydata(), curve.scores.ravel())
    np.testing.assert_array_equal(mean.get_ydata(), curve.mean_scores)
    assert law.get_label() == str(curve.fit())
    np.testing.assert_allclose(law.get_ydata(), 0.1 + 3 * law.get_xdata() ** -0.5, rtol=1e-3)
    np.testing.assert_allclose(beyond.get_xdata()[[0, -1]], [800, 3200])
    assert len(axes.collections) == 1
    # 210 is too close to 200 for a label.
    figure.draw_without_rendering()
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["50", "100", "200", "800"]


def test_without_three_sizes_there_is_no_law():
    (axes,) = lab.plot_learning_curve(made(SIZES[:2])).axes
    assert len(axes.lines) == 2 and not axes.collections


def test_anything_else_raises():
    with pytest.raises(ConfigError, match="plot_learning_curve: expected a LearningCurve"):
        lab.plot_learning_curve([1, 2])
    with pytest.raises(ConfigError, match="plot_learning_curve extend: expected a number in"):
        lab.plot_learning_curve(made(SIZES), extend=0.5)
