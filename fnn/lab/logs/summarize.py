"""Many runs at once, told as one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fnn.errors import ConfigError, ShapeError
from fnn.train.figures import LOSS, VALID_LOSS

JUDGES = (VALID_LOSS, LOSS)


def summarize_runs(figures: Mapping[str, Any]) -> dict[str, float]:
    """The figures of many runs, (lanes,) each, as floats: `loss_best`, `loss_median` and so on, and `diverged`.

    best:     those of one run, the run of the lowest valid_loss, or of the lowest loss where there is none.
    median:   over the runs that have not diverged.
    diverged: how many runs have a loss or valid_loss that is no finite number. If all have, best and median are NaN.
    ConfigError without a loss; ShapeError for another shape.
    """
    lanes = {name: np.asarray(value) for name, value in figures.items()}
    judges = [name for name in JUDGES if name in lanes]
    if not judges:
        raise ConfigError(
            "summarize_runs figures",
            "a loss to judge by",
            ", ".join(lanes) or "none",
            "give loss, too",
        )
    for name, values in lanes.items():
        if values.ndim != 1 or values.shape != lanes[judges[0]].shape or not values.size:
            advice = "give those of one step, history.loss[:, step]"
            raise ShapeError(
                f"summarize_runs {name}",
                "one number a run, (lanes,), for all",
                values.shape,
                advice,
            )
    sound = np.all([np.isfinite(lanes[name]) for name in judges], axis=0)
    best = np.where(sound, lanes[judges[0]], np.inf).argmin()
    told = {"diverged": float((~sound).sum())}
    for name, values in lanes.items():
        told[f"{name}_best"] = float(values[best]) if sound.any() else np.nan
        told[f"{name}_median"] = float(np.median(values[sound])) if sound.any() else np.nan
    return told
