"""Pictures of a run."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fnn.lab.drawing import blank, write
from fnn.types import History, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIN, VALID, RATE = "#0072B2", "#D55E00", "#009E73"  # Okabe & Ito's palette: told apart by color-blind eyes as well
WINDOW = 0.05  # of the run: over how many steps the moving average and the spread are taken


def curves(result: Result | History, path: str | os.PathLike[str]) -> Path:
    """Write a picture of a run, and return its path: loss (each step, moving average, spread), metrics, learning rate.

    Histories with a lane axis, from a vmapped run, show the mean over lanes and the spread between them.
    ConfigError for a suffix that names no picture format, or a folder that is not there. Needs matplotlib: fnn[plot].
    """
    figure, target = blank("curves", path, figsize=(12, 3.6))
    history = result.history if isinstance(result, Result) else result
    numbers = [name for name in history if history[name].ndim == history["loss"].ndim]  # no picture of a matrix
    names = [name for name in numbers if name != "finite" and not name.startswith("valid_")]
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _panel(axes, history, name)
    return write(figure, target)


def _panel(axes: "Axes", history: History, name: str) -> None:
    lanes = np.atleast_2d(np.asarray(history[name], float))  # (lanes, steps)
    steps = np.arange(1, lanes.shape[1] + 1)
    if name == "rate":
        axes.plot(steps, lanes.T, color=RATE, alpha=max(0.2, 1 / len(lanes)))
    else:
        _cloud(axes, steps, lanes)
    if f"valid_{name}" in history:
        _epochs(axes, np.atleast_2d(np.asarray(history[f"valid_{name}"], float)), len(steps))
    if name == "loss" and (lanes > 0).all():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_title({"rate": "learning rate"}.get(name, name))
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if name != "rate":
        axes.legend(frameon=False)


def _cloud(axes: "Axes", steps: np.ndarray, lanes: np.ndarray) -> None:
    """Every step as a faint point, their moving average as a line, and one standard deviation around it as a band."""
    width = max(1, round(WINDOW * len(steps)))
    windows = np.lib.stride_tricks.sliding_window_view(lanes, width, axis=1)  # (lanes, places, width)
    mean, spread = windows.mean((0, 2)), windows.std((0, 2))
    middle = steps[width // 2 : width // 2 + len(mean)]
    axes.plot(np.tile(steps, (len(lanes), 1)).T, lanes.T, ".", color=TRAIN, alpha=0.25, markersize=2)
    axes.fill_between(
        middle, np.maximum(mean - spread, lanes.min()), mean + spread, color=TRAIN, alpha=0.2, linewidth=0
    )
    axes.plot(middle, mean, color=TRAIN, label=f"training, mean of {width} steps")


def _epochs(axes: "Axes", lanes: np.ndarray, steps: int) -> None:
    """The figures at the end of each epoch, with one standard deviation between lanes as a band."""
    ends = np.arange(1, lanes.shape[1] + 1) * steps / lanes.shape[1]
    mean, spread = lanes.mean(0), lanes.std(0)
    axes.plot(ends, mean, "o-", color=VALID, markersize=3, label="validation")
    if len(lanes) > 1:
        axes.fill_between(ends, mean - spread, mean + spread, color=VALID, alpha=0.2, linewidth=0)
