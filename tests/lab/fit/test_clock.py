"""Time by purpose, and the estimated time of validation."""

import time

import pytest

from fnn.lab.fit.clock import MIN_WAIT, Stopwatch, ValidationTimer

STEP = 0.1
VALIDATION = 0.7


def test_the_time_is_listed_by_purpose_the_longest_first(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 4.0, 9.0, 10.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    stopwatch = Stopwatch()
    with stopwatch.measure("compiling"):
        pass
    with stopwatch.measure("steps"):
        pass
    stopwatch.move("steps", "data", 1.0)
    assert stopwatch.describe() == "10.0 s: steps 4.0, rest 3.0, compiling 2.0, data 1.0"


def test_the_time_of_an_inner_purpose_is_not_counted_for_the_outer(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 5.0, 7.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    stopwatch = Stopwatch()
    with stopwatch.measure("steps"), stopwatch.measure("data"):
        pass
    assert stopwatch.spent == {"steps": 1.0 + 2.0, "data": 3.0}


def estimates(segments):
    """The estimate for each segment (steps, validations, seconds until the host waits for it)."""
    timer = ValidationTimer()
    now = 0.0  # time of the host
    done = 0.0  # when the device has done the last segment
    found = []
    for steps, validations, delay in segments:
        # The device computes one segment after another, whether the host waits or not.
        done += steps * STEP + validations * VALIDATION
        now += delay
        arrived = max(now, done)
        found.append(timer.estimate(now, arrived, steps, validations))
        now = arrived
    return found


def test_time_beyond_that_of_the_steps_is_validation():
    segments = [
        (1, 0, 0.0),
        (16, 0, 0.01),
        (5, 1, 0.01),
        (22, 1, 0.01),
        (10, 0, 0.01),
        (50, 3, 0.0),
    ]
    expected = [0, 0, VALIDATION, VALIDATION, 0, 3 * VALIDATION]
    assert estimates(segments) == pytest.approx(expected)


def test_the_estimate_is_at_most_the_wait():
    segments = [(1, 0, 0.0), (9, 0, 0.0), (1, 1, 0.5)]
    assert estimates(segments) == pytest.approx([0, 0, 0.3])


def test_a_segment_that_was_done_before_the_wait_and_the_next_one_have_no_estimate():
    delay = 9 * STEP + MIN_WAIT / 2
    segments = [(1, 0, 0.0), (9, 0, delay), (4, 1, 0.0)]
    assert estimates(segments) == [0, 0, 0]


def test_without_a_segment_of_steps_alone_there_is_no_estimate():
    segments = [(5, 1, 0.0), (5, 1, 0.0)]
    assert estimates(segments) == [0, 0]
