"""Summary of a run: its best epoch, the time by purpose, and advice."""

from collections.abc import Iterator, Sequence

import numpy as np

from fnn.diagnose import Findings
from fnn.lab.console.preflight import format_line
from fnn.lab.console.table import format_number
from fnn.lab.fit.clock import Stopwatch

RISE = 1.05  # ratio of the last validation loss to the least one, above which it has risen
FALL = 0.95  # ratio to the loss a quarter of the run before, below which it still falls
MIN_EPOCHS = 4  # fewer are too few for advice
MAX_FINDINGS = 3  # shown of a run


def advice(losses: Sequence[float]) -> str | None:
    """Advise on the next run, given the validation loss of each epoch, or return None."""
    if len(losses) < MIN_EPOCHS or not np.isfinite(losses).all():
        return None
    # A rise after the best epoch is overfitting; a best last epoch may not be the best possible.
    best = int(np.argmin(losses))
    last = losses[-1]
    if last > RISE * losses[best]:
        change = f"from {format_number(losses[best])} in epoch {best + 1} to {format_number(last)}"
        remedy = "stop there, by early_stopping=, or augment or decay more"
        return f"valid_loss has risen {change}: {remedy}"
    is_best_last = best == len(losses) - 1
    quarter_before = losses[-1 - len(losses) // 4]
    if is_best_last and last < FALL * quarter_before:
        return "valid_loss was still falling at the end: train for more epochs, or at a higher rate"
    return None


def footer(
    best: str,
    stop_reason: str,
    stopwatch: Stopwatch,
    next_step: str | None,
    findings: Findings,
) -> Iterator[str]:
    """Yield the last lines of a run.

    Args:
        best: Description of the best epoch, or "" where there is none.
        stop_reason: Why and where the run ended.
        stopwatch: The time spent by purpose.
        next_step: Advice, if there is any.
        findings: Of the recorded figures; errors and warnings are shown.
    """
    yield format_line("ended", stop_reason)
    if best:
        yield format_line("best", best)
    yield format_line("took", stopwatch.describe())
    for finding in (findings.errors + findings.warnings)[:MAX_FINDINGS]:
        yield format_line("!!", str(finding))
    if next_step:
        yield format_line("next", next_step)
