"""SIGINT (Ctrl-C) and SIGTERM as requests to stop instead of exceptions."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A blocked loader or callback is interrupted after this time. Schedulers often send SIGKILL 30 s
# after SIGTERM, and the run is saved in between.
GRACE_SECONDS = 5.0


class Interrupted(KeyboardInterrupt):
    """Raised in the code of a user that is blocked after a signal."""


class StopRequest:
    """The signal that was received, if any.

    Attributes:
        number: Number of the first signal, or 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._is_overdue = False
        self._is_reminder = False  # the next signal is the timer's
        self._may_interrupt = False
        self._timer: threading.Timer | None = None

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise Interrupted within the block once GRACE_SECONDS have passed since the signal."""
        self._may_interrupt = True
        try:
            if self._is_overdue:
                raise Interrupted
            yield
        finally:
            self._may_interrupt = False

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: note the first, and give the second its usual effect."""
        if self._is_reminder:
            self._is_reminder = False
            if self._may_interrupt:
                raise Interrupted
        elif not self.number:
            self.number = number
            self._timer = threading.Timer(GRACE_SECONDS, self._expire)
            self._timer.daemon = True
            self._timer.start()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise signal_exit(number)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        self._is_overdue = True
        self._is_reminder = True
        # A signal, since it ends a blocking call of the operating system.
        signal.pthread_kill(threading.main_thread().ident or 0, self.number)


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Catch the first signal within a block.

    A second signal has its usual effect: KeyboardInterrupt for SIGINT, or an
    exit with code 143 for SIGTERM. Signals arrive in the main thread only; in other threads nothing
    is caught.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    finally:
        request.close()
        for number, handler in previous.items():
            # A handler that was not installed from Python is None, and cannot be restored.
            signal.signal(number, handler or signal.SIG_DFL)


def signal_exit(number: int) -> SystemExit:
    """Make the exit whose code names the signal to the shell: 130 for SIGINT, 143 for SIGTERM."""
    return SystemExit(128 + number)
