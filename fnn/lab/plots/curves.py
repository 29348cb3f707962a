"""The picture of a run."""

from typing import TYPE_CHECKING

import numpy as np

from fnn.errors import ShapeError
from fnn.lab.plots.figure import Place, blank, write
from fnn.train.figures import FLAGS, LOSS, RATE, VALID_LOSS, is_validation, validation
from fnn.types import History, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's palette, which color-blind eyes tell apart.
TRAIN_COLOR, VALID_COLOR, RATE_COLOR = "#0072B2", "#D55E00", "#009E73"
WINDOW = 0.05  # of the run: over how many steps the moving average and the spread are taken
PLACES = 500  # of the moving average at most: more cannot be seen
FAR = 4  # times from the lowest to the highest, from where on logarithms are shown
DROP = 0.2  # of the rate, within one step: what is marked, unless the steps beside it do the same


def plot_curves(result: Result | History, path: Place | None = None) -> "Figure":
    """A picture of a run: loss and metrics (each step, moving average, spread), the best epoch, the learning rate.

    It is the figure, which a notebook shows, and is written to path if one is given. The best epoch is the one of
    the lowest valid_loss. Epochs are drawn as equal shares of the steps, so a little late in a run that was stopped
    within one: a history does not tell where they end. Where the rate drops by a fifth or more within one step, and
    not smoothly, lines tell it in every panel. Histories with a lane axis, from a vmapped run, show the mean over
    lanes and the spread between them; a run is left out from where its loss is not finite. ShapeError for a history
    of no step; ConfigError for a suffix that names no picture format, or a folder that is not there. Needs
    matplotlib: fnn[plot].
    """
    history = result.history if isinstance(result, Result) else result
    if not history[LOSS].size:
        raise ShapeError(
            "curves", "a history of one step or more", history, "draw it when the run has begun"
        )
    arrays = {name: np.asarray(history[name], float) for name in history}
    numbers = {
        name: np.atleast_2d(own) for name, own in arrays.items() if own.ndim == arrays[LOSS].ndim
    }
    numbers = {name: _of_the_living(numbers, name) for name in numbers}
    names = [name for name in numbers if name not in FLAGS and not is_validation(name)]
    figure, target = blank("curves", path, figsize=(4 * len(names), 3.6))
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _panel(axes, numbers, name)
    return write(figure, target)


def _of_the_living(history: dict[str, np.ndarray], name: str) -> np.ndarray:
    """The lanes of a figure, of a population only those that have a finite loss at the time."""
    own, loss = history[name], history[VALID_LOSS if is_validation(name) else LOSS]
    return np.where(np.isfinite(loss), own, np.nan) if len(own) > 1 else own


def drops(lanes: np.ndarray) -> np.ndarray:
    """The steps, counted from 1, whose rate is far below the one before, in all lanes that are told of: (lanes, steps).

    A step beside another such one is part of a smooth descent, as at the end of a cosine, and no drop.
    """
    fell = (lanes[:, 1:] <= (1 - DROP) * lanes[:, :-1]) & (lanes[:, :-1] > 0)
    falls = np.pad((fell | np.isnan(lanes[:, 1:])).all(0) & fell.any(0), 1)
    alone = falls[1:-1] & ~falls[:-2] & ~falls[2:]
    return np.flatnonzero(alone) + 2


def _panel(axes: "Axes", history: dict[str, np.ndarray], name: str) -> None:
    lanes = history[name]  # (lanes, steps)
    steps = np.arange(1, lanes.shape[1] + 1)
    dropped = drops(history[RATE]) if RATE in history else np.array([], int)
    if name == RATE:
        axes.plot(steps, lanes.T, color=RATE_COLOR, alpha=max(0.2, 1 / len(lanes)))
        axes.plot(dropped, lanes[:, dropped - 1].T, "v", color=RATE_COLOR, label="dropped")
        _scale(
            axes, np.max(lanes, axis=1, where=lanes > 0, initial=0)
        )  # by the highest rate of each
        axes.set_ylim(bottom=0 if axes.get_yscale() == "linear" else None)
    else:
        _cloud(axes, steps, lanes)
    for step in dropped:
        axes.axvline(step, color=RATE_COLOR, linewidth=0.8, alpha=0.6, zorder=0)
    if history.get(validation(name), np.empty(0)).size:
        _epochs(axes, history[validation(name)], len(steps), history[VALID_LOSS])
    if name == LOSS:
        _scale(axes, np.concatenate([lanes.ravel(), history.get(VALID_LOSS, lanes).ravel()]))
    axes.set_title(_title(name, lanes))
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if name != RATE or dropped.size:
        axes.legend(edgecolor="none", fontsize="small")


def _title(name: str, lanes: np.ndarray) -> str:
    """What a panel shows; of a population also of how many runs, where some are lost."""
    told = {RATE: "learning rate"}.get(name, name)
    alive = np.isfinite(lanes[:, -1]).sum()
    return (
        f"{told}, {alive} of {len(lanes)} runs left"
        if name == LOSS and alive < len(lanes) > 1
        else told
    )


def _scale(axes: "Axes", values: np.ndarray) -> None:
    """What goes far, and is never 0 or below, is shown by its logarithm."""
    values = values[np.isfinite(values)]
    if values.size and values.max() > FAR * values.min() > 0:
        axes.set_yscale("log", subs=[2, 5])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")


def _cloud(axes: "Axes", steps: np.ndarray, lanes: np.ndarray) -> None:
    """Every step as a faint point, their moving average as a line, and one standard deviation around it as a band."""
    width = max(1, round(WINDOW * len(steps)))
    starts = np.unique(np.linspace(0, len(steps) - width, PLACES).astype(int))
    mean, spread = np.array([summary(lanes[:, start : start + width]) for start in starts]).T
    middle = steps[starts + width // 2]
    axes.plot(
        np.tile(steps, (len(lanes), 1)).T, lanes.T, ".", color=TRAIN_COLOR, alpha=0.25, markersize=2
    )
    low = np.min(lanes, where=np.isfinite(lanes), initial=np.inf)
    axes.fill_between(
        middle,
        np.maximum(mean - spread, low),
        mean + spread,
        color=TRAIN_COLOR,
        alpha=0.2,
        linewidth=0,
    )
    label = "training" if width == 1 else f"training, mean of {width} steps"
    axes.plot(middle, mean, color=TRAIN_COLOR, label=label)


def summary(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of what is finite; NaN where nothing is."""
    finite = values[np.isfinite(values)]
    return (finite.mean(), finite.std()) if finite.size else (np.nan, np.nan)


def _epochs(axes: "Axes", lanes: np.ndarray, steps: int, judge: np.ndarray) -> None:
    """The figures at the end of each epoch, one standard deviation between lanes as a band, the best epoch a star."""
    ends = np.arange(1, lanes.shape[1] + 1) * steps / lanes.shape[1]
    mean, spread = np.array([summary(column) for column in lanes.T]).T
    axes.plot(ends, mean, "o-", color=VALID_COLOR, markersize=3, label="validation")
    if len(lanes) > 1:
        axes.fill_between(
            ends, mean - spread, mean + spread, color=VALID_COLOR, alpha=0.2, linewidth=0
        )
    losses = [summary(column)[0] for column in judge.T]
    if np.isfinite(losses).any():
        best = int(np.nanargmin(losses))
        label = f"best epoch, {best + 1}: {mean[best]:.4g}"
        axes.plot(
            ends[best],
            mean[best],
            "*",
            color=VALID_COLOR,
            markeredgecolor="black",
            markersize=11,
            label=label,
        )
