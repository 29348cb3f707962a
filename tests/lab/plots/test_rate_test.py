"""Plots of rate tests."""

import numpy as np
import pytest

from fnn import lab, nn, optim, train
from fnn.errors import ConfigError
from fnn.search import RateTest
from fnn.search.rate_band import find_band

RATES = np.geomspace(1e-3, 10, 5)
RECIPE = train.recipe(nn.dense(1), optim.sgd(0.1))


def made(losses):
    rows = np.repeat(np.array(losses, float)[:, None, None], 8, 2).repeat(2, 1)
    baseline = np.ones((2, 8))
    band = find_band(RATES, rows, baseline)
    return RateTest(RATES, rows, baseline, band, (band, band), "optimizer.rate", RECIPE)


def test_the_band_and_the_losses_are_drawn(tmp_path):
    test = made([0.95, 0.4, 0.1, 1e9, np.nan])
    path = tmp_path / "rates.png"
    (axes,) = lab.plot_rate_test(test, path).axes
    assert path.exists()
    assert axes.get_xscale() == "log" and "log" in axes.get_xlabel()
    lines = {line.get_label(): line for line in axes.lines}
    assert np.isin(["mean over seeds", "without training", "suggested 0.1"], list(lines)).all()
    np.testing.assert_allclose(lines["mean over seeds"].get_ydata(), test.tail_losses.mean(1))
    assert lines["not finite: 1"].get_xdata() == [10]
    # A rate that diverged does not hide the fall of the others.
    assert 1 < axes.get_ylim()[1] < 2
    (band,) = axes.patches
    np.testing.assert_allclose(band.get_x(), RATES[1])
    np.testing.assert_allclose(band.get_x() + band.get_width(), RATES[2])


def test_tick_labels_are_plain_numbers():
    figure = lab.plot_rate_test(made([0.95, 0.4, 0.1, 2, 3]))
    figure.draw_without_rendering()
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert "0.01" in labels and not any("$" in label for label in labels)


def test_anything_else_raises():
    with pytest.raises(ConfigError, match="plot_rate_test: expected a RateTest, got float"):
        lab.plot_rate_test(RATES)
    with pytest.raises(ConfigError, match="path: expected a suffix among"):
        lab.plot_rate_test(made([0.9, 0.4, 0.1, 2, 3]), "x.nothing")
