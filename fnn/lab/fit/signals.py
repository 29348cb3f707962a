"""SIGINT (Ctrl-C) and SIGTERM as requests to stop instead of exceptions."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def catch_signals() -> Iterator[Callable[[], int]]:
    """Catch the first signal within a block.

    A second signal has its usual effect: KeyboardInterrupt for SIGINT, or an exit with code 143
    for SIGTERM. Signals arrive in the main thread only; in other threads nothing is caught.

    Returns:
        A function that returns the number of the signal that was received, or 0.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    received = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal received
        if not received:
            received = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise signal_exit(number)

    previous = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield lambda: received
    finally:
        for number, handler in previous.items():
            # A handler that was not installed from Python is None, and cannot be restored.
            signal.signal(number, handler or signal.SIG_DFL)


def signal_exit(number: int) -> SystemExit:
    """Make the exit whose code names the signal to the shell: 130 for SIGINT, 143 for SIGTERM."""
    return SystemExit(128 + number)
