"""Signals as requests to stop."""

import signal
import threading

import pytest

from fnn.lab.fit.signals import catch_signals


def test_the_first_signal_is_caught_and_the_second_raises():
    with catch_signals() as received:
        assert received() == 0
        signal.raise_signal(signal.SIGINT)
        assert received() == signal.SIGINT
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
        with catch_signals() as received:
            values.append(received())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert values == [0]
