"""The rule of waiting for input, on hand-made times."""

import pytest

from fnn.diagnose import Thresholds
from fnn.diagnose.input_rules import InputTimes, input_bound

BOUND = InputTimes(steps=500, batch=0.02, step=0.005, waited=7.5, total=10.5)


def test_waiting_for_most_of_the_time_is_a_warning_with_its_share():
    (finding,) = input_bound(BOUND, Thresholds())
    assert (finding.id, finding.name, finding.severity) == ("T20", "input_bound", "warning")
    assert finding.measured["share"] == pytest.approx(7.5 / 10.5)
    assert "71% of the time" in finding.title
    assert "20 ms per batch, 5 ms per step" in finding.title


@pytest.mark.parametrize("change", [{"waited": 5.0}, {"total": 1.0, "waited": 0.9}, {"steps": 5}])
def test_less_waiting_or_a_short_run_is_none(change):
    assert not input_bound(BOUND._replace(**change), Thresholds())


def test_the_share_is_a_threshold():
    assert not input_bound(BOUND, Thresholds(input_share=0.8))
