"""Windows, trends, cuts and spikes of curves with known ones."""

import numpy as np
import pytest

from fnn.diagnose import curves

NOISE = np.random.default_rng(0).standard_normal(400)


def test_windows_average_equal_parts_and_leave_out_nan():
    values = np.arange(40.0)
    values[3] = np.nan
    found = curves.split_windows(values, 4)
    assert found.ends.tolist() == [10, 20, 30, 40]
    np.testing.assert_allclose(found.mean, [(45 - 3) / 9, 14.5, 24.5, 34.5])
    np.testing.assert_allclose(found.error[1], np.arange(10).std() / np.sqrt(10))
    assert len(curves.split_windows(np.zeros(9)).mean) == 2


def test_a_moving_average_covers_the_steps_before():
    np.testing.assert_allclose(curves.smooth(np.array([1.0, 3, 5, 7]), 2), [1, 2, 4, 6])


def test_the_fall_of_a_line_is_relative_to_its_begin():
    assert curves.relative_fall(np.linspace(4, 3, 50)) == pytest.approx(0.25)
    assert curves.relative_fall(np.linspace(3, 4, 50)) == pytest.approx(-1 / 3)


def test_noise_is_no_fall():
    assert not curves.has_fallen(1 + 0.5 * NOISE, 0.05)
    assert curves.has_fallen(np.linspace(1, 0.5, 400) + 0.5 * NOISE, 0.05)


def test_a_cut_is_where_the_rate_stays_low():
    rate = np.r_[np.linspace(0.01, 1, 10), np.ones(20), np.full(30, 0.1)]
    assert curves.find_cut(rate, 0.2) == (30, 1.0, 0.1)
    assert curves.find_cut(np.ones(10), 0.2) is None
    # With restarts the rate is high again.
    assert curves.find_cut(np.r_[rate, 1.0], 0.2) is None
    assert curves.find_cut(np.full(5, np.nan), 0.2) is None


def test_a_spike_lasts_for_three_steps_and_rises_by_the_least():
    values = 1 + 0.05 * NOISE
    assert curves.find_spikes(values, 2.0, 0.5) == []
    values[100:104] += 4
    (step,) = curves.find_spikes(values, 2.0, 0.5)
    assert 98 <= step <= 100
    assert curves.find_spikes(values, 2.0, 10.0) == []
    values[200] += 2.5  # one noisy batch
    assert len(curves.find_spikes(values, 2.0, 0.5)) == 1
