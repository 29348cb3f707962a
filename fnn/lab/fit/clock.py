"""Wall-clock time by purpose, and the estimated time of validation."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

MIN_WAIT = 1e-3  # seconds; after a shorter wait, the result had been there before


class Stopwatch:
    """Measures wall-clock seconds by purpose.

    Purposes may be nested: the time of an inner one is not counted for the outer one.

    Attributes:
        spent: Seconds by purpose.
    """

    def __init__(self) -> None:
        # A monotonic clock, which is never set back.
        self.began = time.monotonic()
        self.spent: dict[str, float] = defaultdict(float)
        self._purpose: str | None = None
        self._purpose_began = self.began

    @contextmanager
    def measure(self, purpose: str) -> Iterator[None]:
        """Count the time of a block for a purpose."""
        outer = self._purpose
        self._switch(purpose)
        try:
            yield
        finally:
            self._switch(outer)

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count seconds that were counted for one purpose for another."""
        self.spent[source] -= seconds
        self.spent[target] += seconds

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.began

    def describe(self) -> str:
        """Format the total and the time of each purpose, the longest first."""
        total = self.seconds()
        rest = total - sum(self.spent.values())
        parts = self.spent | {"rest": rest}
        texts = []
        for purpose, seconds in sorted(parts.items(), key=lambda part: -part[1]):
            if seconds >= 0.05:  # shorter times would be shown as 0.0
                texts.append(f"{purpose} {seconds:.1f}")
        return f"{total:.1f} s: {', '.join(texts)}"

    def _switch(self, purpose: str | None) -> None:
        now = time.monotonic()
        if self._purpose is not None:
            self.spent[self._purpose] += now - self._purpose_began
        self._purpose = purpose
        self._purpose_began = now


class ValidationTimer:
    """Estimates the time of validation in segments that compute steps and validation.

    A segment is one program, of which the host observes only when it is done. Segments without
    validation give the time per step; the time of a segment beyond that of its steps is
    validation. A segment that was done before the host waited for it gives no information,
    because it is unknown when it was done. Neither does the next one, whose start is unknown.
    """

    def __init__(self) -> None:
        # Of all segments without validation whose duration is known.
        self.steps = 0
        self.seconds = 0.0
        # When the last segment was done, if known. The device then started the next one.
        self.last_arrival: float | None = None

    def estimate(
        self,
        wait_began: float,
        arrived: float,
        steps: int,
        validations: int,
    ) -> float:
        """Return the seconds of the host's wait for a segment that were validation.

        Args:
            wait_began: When the host began to wait for the segment, in seconds of a clock.
            arrived: When the segment was done.
            steps: Number of steps of the segment.
            validations: Number of validations in the segment.
        """
        began = self.last_arrival
        is_known = arrived - wait_began > MIN_WAIT
        self.last_arrival = arrived if is_known else None
        if began is None or not is_known:
            return 0.0
        duration = arrived - began
        if validations == 0:
            self.steps += steps
            self.seconds += duration
            return 0.0
        if self.steps == 0:
            return 0.0
        seconds_of_steps = steps * self.seconds / self.steps
        validation = max(0.0, duration - seconds_of_steps)
        # The rest of the duration was not spent on waiting.
        return min(validation, arrived - wait_began)
