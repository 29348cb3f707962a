"""Signals as requests to stop."""

import signal
import threading
import time

import pytest

from fnn.lab.fit import signals
from fnn.lab.fit.signals import Interrupted, catch_signals


def test_the_first_signal_is_caught_and_the_second_raises():
    with catch_signals() as request:
        assert request.number == 0
        signal.raise_signal(signal.SIGINT)
        assert request.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handlers_are_restored():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), catch_signals():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_catch_nothing():
    values = []

    def work():
        with catch_signals() as request:
            values.append(request.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert values == [0]


def test_blocked_code_is_interrupted_after_the_grace_time(monkeypatch):
    monkeypatch.setattr(signals, "GRACE_SECONDS", 0.01)
    with catch_signals() as request:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted), request.interruptible():
            time.sleep(60)
        # The saved state is written after that, outside of such a block, in peace.
        time.sleep(0.02)
        with pytest.raises(Interrupted), request.interruptible():
            pytest.fail("overdue already")


def test_code_that_is_not_interruptible_is_left_alone(monkeypatch):
    monkeypatch.setattr(signals, "GRACE_SECONDS", 0.01)
    with catch_signals():
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.1)
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
