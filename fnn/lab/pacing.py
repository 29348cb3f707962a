"""How long validation takes where it is one program with the steps before it."""

import time
from collections.abc import Callable
from typing import Any

BRIEF = 1e-3  # seconds of waiting up to which something was there before


class Pace:
    """What the ends of epochs take beyond the time of as many steps elsewhere.

    Known of those that were waited for, after others that were: of what was there before nobody knows since when.
    """

    def __init__(self) -> None:
        self.steps, self.seconds = 0, 0.0  # within epochs
        self.there: float | None = None  # when the last stretch was done

    def arrive(self, figures: Callable[[], Any], steps: int, ends: int) -> tuple[Any, float]:
        """What a stretch of so many steps and ends of epochs brings; of the waiting for it, what was validation."""
        began, before = time.monotonic(), self.there
        brought = figures()
        now = time.monotonic()
        self.there = now if now - began > BRIEF else None
        if before is None or self.there is None:
            return brought, 0.0
        if not ends:
            self.steps, self.seconds = self.steps + steps, self.seconds + now - before
        beyond = now - before - steps * self.seconds / self.steps if self.steps else 0.0
        return brought, min(max(0.0, beyond), now - began) if ends else 0.0
