"""What validation takes is told of one program that does the last steps of an epoch and validates."""

import time
from functools import partial

import pytest

from fnn.lab.fit.clock import BRIEF, ValidationTimer

STEP, VALIDATION = 0.1, 0.7


def told(stretches, monkeypatch):
    """The seconds told of each stretch (steps, ends, the seconds until somebody comes for it after the last)."""
    clock, done = [0.0], 0.0  # by whose clock, and when the last stretch is done
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    pace, seconds = ValidationTimer(), []

    def wait(done):
        clock[0] = max(clock[0], done)
        return "brought"

    for steps, ends, away in stretches:
        done += steps * STEP + ends * VALIDATION  # one after another, whether anybody waits or not
        clock[0] += away
        brought, own = pace.arrive(partial(wait, done), steps, ends)
        assert brought == "brought"
        seconds.append(own)
    return seconds


def test_what_the_end_of_an_epoch_takes_beyond_its_steps_is_validation(monkeypatch):
    stretches = [
        (1, 0, 0.0),
        (16, 0, 0.01),
        (5, 1, 0.01),
        (22, 1, 0.01),
        (10, 0, 0.01),
        (50, 3, 0),
    ]
    assert told(stretches, monkeypatch) == pytest.approx(
        [0, 0, VALIDATION, VALIDATION, 0, 3 * VALIDATION]
    )


def test_no_more_of_the_waiting_than_there_was(monkeypatch):
    assert told([(1, 0, 0.0), (9, 0, 0.0), (1, 1, 0.5)], monkeypatch) == pytest.approx([0, 0, 0.3])


def test_of_what_was_there_before_and_of_what_comes_after_it_nothing_is_known(monkeypatch):
    late = 9 * STEP + BRIEF / 2
    assert told([(1, 0, 0.0), (9, 0, late), (4, 1, 0.0)], monkeypatch) == [0, 0, 0]


def test_without_a_step_elsewhere_nothing_is_known(monkeypatch):
    assert told([(5, 1, 0.0), (5, 1, 0.0)], monkeypatch) == [0, 0]
