"""Whether a lower or a higher value of a figure is better."""

from functools import partial
from typing import Any

from fnn.objective.loss import DeclaredLoss
from fnn.values import Made

# Metrics of fnn.objective by their names.
HIGHER = {
    "accuracy",
    "average_precision",
    "binary_accuracy",
    "f1",
    "mean_iou",
    "precision",
    "r2",
    "recall",
    "roc_auc",
    "top_k",
}
LOWER = {"calibration_error", "perplexity"}


def known_mode(function: Any) -> str | None:
    """Return "min" or "max" for a loss or a metric of fnn, and None for any other function.

    A wrapped function has the direction of the one inside, as in ignoring(f1(), 255).

    Args:
        function: A loss, a metric, or a value made of them.
    """
    if isinstance(function, partial):
        return known_mode(function.func)
    maker = function.maker if isinstance(function, Made) else function
    name = getattr(maker, "__name__", "")
    if getattr(maker, "__module__", "").startswith("fnn.objective") and name in HIGHER | LOWER:
        return "max" if name in HIGHER else "min"
    # Also a loss of a user, declared by objective.loss.
    if isinstance(maker, DeclaredLoss):
        return "min"
    if isinstance(function, Made):
        for argument in function.arguments.values():
            if callable(argument):
                return known_mode(argument)
    return None
