"""What a run tells when it is over: its best epoch, where the time went, what to do next."""

from collections.abc import Iterator, Sequence

import numpy as np

from fnn.lab.console.preflight import told
from fnn.lab.console.table import number
from fnn.lab.fit.clock import Stopwatch

RISEN = 1.05  # times the least validation loss, from which it has risen
FELL = 0.95  # times that of a quarter of the run before, up to which it still falls
ENOUGH = 4  # epochs from which there is something to tell


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
