"""What a run tells when it is over: its best epoch, where the time went, what to do next."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from fnn.lab.headers import told
from fnn.lab.tables import number

RISEN = 1.05  # times the least validation loss, from which it has risen
FELL = 0.95  # times that of a quarter of the run before, up to which it still falls
ENOUGH = 4  # epochs from which there is something to tell


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


def advice(losses: Sequence[float]) -> str | None:
    """What the validation losses of the epochs advise to do next, if anything."""
    if len(losses) < ENOUGH or not np.isfinite(losses).all():
        return None
    best = int(np.argmin(losses))
    if losses[-1] > RISEN * losses[best]:
        rise = f"valid_loss has risen from {number(losses[best])} in epoch {best + 1} to {number(losses[-1])}"
        return f"{rise}: stop there, by early_stopping=, or augment or decay more"
    if best == len(losses) - 1 and losses[-1] < FELL * losses[-1 - len(losses) // 4]:
        return "valid_loss was still falling at the end: train for more epochs, or at a higher rate"
    return None


def footer(best: str, ended: str, watch: Stopwatch, next_step: str | None) -> Iterator[str]:
    """The last lines of a run."""
    yield told("ended", ended)
    if best:
        yield told("best", best)
    yield told("took", watch.told())
    if next_step:
        yield told("next", next_step)
