"""Summary of the figures of many runs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fnn.errors import ConfigError, ShapeError
from fnn.train.figures import LOSS, VALID_LOSS

# Figures by which runs are compared: the first one that is given decides.
CRITERIA = (VALID_LOSS, LOSS)


def summarize_runs(figures: Mapping[str, Any]) -> dict[str, float]:
    """Summarize the figures of many runs at one step.

    Args:
        figures: An array per figure, (lanes,), with one number per run. It must hold `loss` or
            `valid_loss`.

    Returns:
        For each figure, as floats: `{name}_best`, that of the best run, and `{name}_median`, the
        median over the runs that did not diverge. The best run has the lowest valid_loss, or the
        lowest loss where there is no valid_loss. `diverged` is the number of runs whose loss or
        valid_loss is not finite. If all runs diverged, best and median are NaN.

    Raises:
        ConfigError: Neither `loss` nor `valid_loss` is given.
        ShapeError: A figure is not of shape (lanes,), or the figures differ in their shapes.
    """
    lanes = {name: np.asarray(value) for name, value in figures.items()}
    criteria = [name for name in CRITERIA if name in lanes]
    if not criteria:
        raise ConfigError(
            "summarize_runs figures",
            "a loss or valid_loss",
            ", ".join(lanes) or "an empty dict",
            "add the loss",
        )
    criterion = lanes[criteria[0]]
    for name, values in lanes.items():
        if values.ndim != 1 or values.shape != criterion.shape or not values.size:
            raise ShapeError(
                f"summarize_runs {name}",
                "one number per run, (lanes,), for all figures",
                values.shape,
                "give those of one step, history.loss[:, step]",
            )
    # (criteria, lanes) -> (lanes,)
    is_finite = np.all([np.isfinite(lanes[name]) for name in criteria], axis=0)
    best = np.where(is_finite, criterion, np.inf).argmin()
    diverged = (~is_finite).sum()
    summary = {"diverged": float(diverged)}
    for name, values in lanes.items():
        if is_finite.any():
            summary[f"{name}_best"] = float(values[best])
            summary[f"{name}_median"] = float(np.median(values[is_finite]))
        else:
            summary[f"{name}_best"] = np.nan
            summary[f"{name}_median"] = np.nan
    return summary
