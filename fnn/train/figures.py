"""The figures of a run: how they are named, and how those of steps become one of an epoch.

Of each step there are loss, penalty, the metrics, the measures, rate and finite; of each validation the loss and the
metrics, under names that begin with `valid_`.
"""

from typing import Any

from fnn.types import PENALTY

LOSS, RATE, FINITE, OVER = "loss", "rate", "finite", "over"
OWN = (LOSS, PENALTY, RATE, FINITE)  # of every step, whatever the recipe measures
VALID = "valid_"
VALID_LOSS = f"{VALID}{LOSS}"
FLAGS = {FINITE}  # truth values: they are not averaged, logged or drawn
LAST = {RATE}  # of these an epoch has the last value, of all others the mean


def validation(name: str) -> str:
    """The name of a figure of validation."""
    return f"{VALID}{name}"


def is_validation(name: str) -> bool:
    """Whether a figure is one of validation, of which there is one an epoch."""
    return name.startswith(VALID)


def of_epoch(name: str, values: Any) -> Any:
    """The figure of an epoch, of those of its steps (steps, ...)."""
    return values[-1] if name in LAST else values.mean(0)
