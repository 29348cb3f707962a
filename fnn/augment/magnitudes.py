"""What a magnitude may be: one number, or a pair between which it is drawn."""

from typing import Any

from fnn import checks
from fnn.errors import ConfigError
from fnn.types import Magnitude


def expect_magnitude(where: str, magnitude: Any, interval: str = "(-inf, inf)") -> Magnitude:
    """The magnitude, if all its numbers lie in the interval and the low one is not above the high one."""
    if not isinstance(magnitude, tuple):
        return checks.number(where, magnitude, interval)
    if len(magnitude) != 2:
        raise ConfigError(where, "one number or (low, high)", magnitude, "give two to draw between them")
    low, high = (
        checks.number(f"{where} {end}", own, interval) for end, own in zip(("low", "high"), magnitude, strict=True)
    )
    if checks.is_concrete(low) and checks.is_concrete(high) and float(low) > float(high):
        raise ConfigError(where, "(low, high) with low <= high", magnitude, "change their places")
    return low, high
