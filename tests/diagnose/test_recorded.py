"""The examination of recorded figures alone."""

import time

import numpy as np
import pytest
from hand_made import CHANCE, STEPS, curve

from fnn import diagnose
from fnn.errors import ConfigError

HEALTHY = {"loss": curve(CHANCE, 0.05), "rate": np.full(STEPS, 0.1)}


def examine(columns=None, **figures):
    return diagnose.examine_history(
        HEALTHY | figures,
        epoch_length=20,
        chance=CHANCE,
        columns=columns,
    )


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
    began = time.process_time()
    diagnose.examine_history(history, epoch_length=1000, chance=CHANCE)
    assert time.process_time() - began < 1.0


def test_without_chance_a_level_loss_is_no_fault():
    level = {"loss": np.full(STEPS, 0.01), "rate": np.full(STEPS, 0.1)}
    assert len(diagnose.examine_history(level, epoch_length=20)) == 0


def test_lanes_are_an_error():
    with pytest.raises(ConfigError, match="expected figures of one run"):
        examine(loss=np.zeros((2, 5)))


def under_way(figures, steps, planned=STEPS, **options):
    """The findings after some of the planned steps."""
    first = {name: values[:steps] for name, values in (HEALTHY | figures).items()}
    return diagnose.examine_history(
        first,
        epoch_length=20,
        chance=CHANCE,
        planned_steps=planned,
        **options,
    )


@pytest.mark.parametrize("steps", [10, 20, 60, 100, STEPS])
def test_a_healthy_run_under_way_has_no_finding(steps):
    assert not under_way({}, steps)
    # At the end, this one should train for longer.
    falling = {"loss": curve(CHANCE, 0.3), "valid_loss": np.linspace(0.7, 0.35, 10)}
    assert "E03" in examine(**falling).ids
    assert not under_way(falling, steps)


def test_a_run_under_way_without_progress_is_found_after_a_fifth_and_an_epoch():
    level = {"loss": np.full(STEPS, CHANCE)}
    assert not under_way(level, 39)
    assert under_way(level, 40).ids == ("T13",)
    assert not under_way(level, 19, planned=20)
    # Far above chance, but falling.
    assert not under_way({"loss": np.linspace(90, 9, STEPS) * CHANCE}, 60)


def test_a_rate_that_is_low_for_a_time_is_no_cut():
    """T12 holds for a run under way from the step on at which it holds for the whole run."""
    cut = {"loss": np.r_[np.linspace(1, 0.6, 40), np.full(160, 0.58)] * CHANCE}
    cut["rate"] = np.r_[np.full(40, 0.1), np.full(160, 0.001)]
    assert not under_way(cut, 110)
    assert under_way(cut, 130).ids == ("T12",)


def test_one_jump_of_a_run_under_way_is_no_fault():
    losses = curve(CHANCE, 0.1)
    losses[130:133] = 0.35
    assert examine(loss=losses).ids == ("T09",)
    assert not under_way({"loss": losses}, 180)
    losses[160:163] = 0.35
    assert under_way({"loss": losses}, 180).ids == ("T09",)


def recorded(share, name="dead_share"):
    """Shares of two layers, measured every 10 steps, of which the second has no such units."""
    rows = np.full((STEPS, 2), np.nan)
    rows[::10, 0] = share
    other = np.full((STEPS, 2), np.nan)
    both = dict.fromkeys(("dead_share", "saturated_share"), other)
    return both | {name: rows}


COLUMNS = dict.fromkeys(("dead_share", "saturated_share"), ("act_1", "dense_2"))


def test_recorded_shares_of_units_are_examined():
    died = recorded(np.linspace(0, 0.95, 20))
    at_end = examine(**died, columns=COLUMNS)
    for found in (at_end, under_way(died, 180, columns=COLUMNS)):
        assert found.ids == ("T06",)
        assert found[0].layer == "act_1"
        # Half of the share at the end was dead by then.
        assert found[0].steps[0] == (100 if found is at_end else 90)
    assert not under_way(died, 60, columns=COLUMNS)
    assert not examine(**recorded(0.1), columns=COLUMNS)


def test_units_that_are_saturated_from_the_start_are_found_under_way():
    assert "T07" in under_way(recorded(0.9, "saturated_share"), 60, columns=COLUMNS).ids
    later = recorded(np.linspace(0, 0.9, 20), "saturated_share")
    assert not under_way(later, 180, columns=COLUMNS)
