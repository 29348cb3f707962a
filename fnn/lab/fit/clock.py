"""How long validation takes where it is one program with the steps before it."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

BRIEF = 1e-3  # seconds of waiting up to which something was there before


class ValidationTimer:
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


class Stopwatch:
    """Seconds by purpose, on a clock that no one sets."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def on(self, purpose: str) -> Iterator[None]:
        """Within, time is spent on this."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.spent[purpose] += time.monotonic() - began

    def move(self, purpose: str, other: str, seconds: float) -> None:
        """So much of what was spent on one was spent on another."""
        self.spent[purpose] -= seconds
        self.spent[other] += seconds

    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.began

    def told(self) -> str:
        """Where the time went, the largest part first."""
        total = self.seconds()
        parts = self.spent | {"rest": total - sum(self.spent.values())}
        largest = sorted(parts.items(), key=lambda part: -part[1])
        shares = (f"{purpose} {seconds:.1f}" for purpose, seconds in largest if seconds >= 0.05)
        return f"{total:.1f} s: {', '.join(shares)}"
