"""The band of rates: laws of its ends on losses made by hand."""

import numpy as np
import pytest

from fnn.search.rate_band import find_band


@pytest.mark.parametrize("axis", [np.log, np.sqrt, lambda rates: -1 / rates])
def test_the_band_does_not_depend_on_the_axis_of_the_rates(axis):
    rates = np.geomspace(1e-4, 1, 9)
    draw = np.random.default_rng(0)
    fall = np.array([0, 0.05, 0.3, 0.6, 0.9, 0.95, 0.5, -0.2, -3])
    losses = 1 - fall[:, None, None] + 0.02 * draw.normal(size=(9, 3, 40))
    baseline = np.ones((3, 40))
    band = find_band(rates, losses, baseline)
    other = find_band(axis(rates), losses, baseline)
    assert [other.low, other.suggested, other.high] == [
        axis(rate) for rate in (band.low, band.suggested, band.high)
    ]
    # Half of the fall, the largest fall, and the last rate before the loss rises.
    assert (band.low, band.suggested, band.high) == (rates[3], rates[5], rates[6])


def test_noise_of_single_steps_and_a_diverged_seed_do_not_move_the_band_up():
    rates = np.geomspace(1e-3, 1, 4)
    losses = np.ones((4, 2, 20)) * np.array([0.9, 0.5, 0.1, 0.1])[:, None, None]
    losses[3, 1, 5] = np.nan
    band = find_band(rates, losses, np.ones((2, 20)))
    assert band.high == band.suggested == rates[2]
