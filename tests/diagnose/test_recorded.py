"""The examination of recorded figures alone."""

import time

import numpy as np
import pytest
from hand_made import CHANCE, STEPS, curve

from fnn import diagnose
from fnn.errors import ConfigError

HEALTHY = {"loss": curve(CHANCE, 0.05), "rate": np.full(STEPS, 0.1)}


def examine(**figures):
    return diagnose.examine_history(HEALTHY | figures, epoch_length=20, chance=CHANCE)


def test_a_healthy_history_has_no_error_and_no_warning():
    assert not [one for one in examine() if one.severity != "info"]
    assert not examine(valid_loss=np.r_[0.3, np.full(9, 0.05)])


def test_faults_of_curves_are_found_without_a_network():
    assert examine(loss=np.full(STEPS, 50.0) + curve(1, 1))[0].id == "T13"
    assert examine(loss=np.r_[curve(CHANCE, 0.1, 60), np.linspace(0.1, 9, 140)])[0].id == "T04"
    cut = {"loss": np.r_[np.linspace(1, 0.6, 40), np.full(160, 0.58)] * CHANCE}
    cut["rate"] = np.r_[np.full(40, 0.1), np.full(160, 0.001)]
    assert examine(**cut)[0].id == "T12"


def test_a_short_history_and_one_that_is_not_finite_have_no_findings():
    assert len(examine(loss=np.array([0.7]), rate=np.array([0.1]))) == 0
    assert len(examine(loss=np.where(np.arange(STEPS) > 90, np.nan, 0.5))) == 0


def test_a_long_history_takes_no_time():
    steps = 300_000
    history = {"loss": curve(CHANCE, 0.05, steps), "rate": np.full(steps, 0.1)}
    began = time.perf_counter()
    diagnose.examine_history(history, epoch_length=1000, chance=CHANCE)
    assert time.perf_counter() - began < 1.0


def test_without_chance_a_level_loss_is_no_fault():
    level = {"loss": np.full(STEPS, 0.01), "rate": np.full(STEPS, 0.1)}
    assert len(diagnose.examine_history(level, epoch_length=20)) == 0


def test_lanes_are_an_error():
    with pytest.raises(ConfigError, match="expected figures of one run"):
        examine(loss=np.zeros((2, 5)))
