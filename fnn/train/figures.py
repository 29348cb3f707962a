"""Names of the figures of a run, and the reduction of step figures to one per epoch.

Each step has loss, penalty, the metrics, the measures, rate and finite. Each validation has the
loss and the metrics, under names that begin with `valid_`.
"""

from typing import Any

from fnn.types import PENALTY

LOSS, RATE, FINITE, OVER = "loss", "rate", "finite", "over"
OWN = (LOSS, PENALTY, RATE, FINITE)  # reserved: recorded for every step, whatever the recipe
VALID = "valid_"
VALID_LOSS = f"{VALID}{LOSS}"
FLAGS = {FINITE}  # booleans: they are not averaged, logged or plotted
LAST = {RATE}  # an epoch has the last value of these, and the mean of all others


def validation_name(name: str) -> str:
    """Return the name of a figure on validation data."""
    return f"{VALID}{name}"


def is_validation(name: str) -> bool:
    """Return whether a figure is on validation data, of which there is one value per epoch."""
    return name.startswith(VALID)


def summarize_epoch(name: str, values: Any) -> Any:
    """Reduce the figures of an epoch's steps (steps, ...) to one of the epoch."""
    return values[-1] if name in LAST else values.mean(0)
