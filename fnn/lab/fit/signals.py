"""Ctrl-C and SIGTERM as requests instead of exceptions."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # a person's wish to stop, and a machine's


@contextmanager
def interruptible() -> Iterator[Callable[[], int]]:
    """Within, the yielded function gives the number of the signal that asked to stop, or 0.

    A second signal does what the first would have done: KeyboardInterrupt, or for SIGTERM an exit with code 143. In
    another thread than the main one, which gets no signals, none is ever asked.
    """
    asked: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt if number == signal.SIGINT else exit_by(number)
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    previous = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield lambda: asked[0] if asked else 0
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)


def exit_by(number: int) -> SystemExit:
    """The exit that tells the shell which signal ended the program: 130 for SIGINT, 143 for SIGTERM."""
    return SystemExit(128 + number)
