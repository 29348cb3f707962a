"""Plot of the learning curves of a run."""

from typing import TYPE_CHECKING

import numpy as np

from fnn.errors import ShapeError
from fnn.lab.plots.figure import PALETTE, FilePath, create_figure, save_figure
from fnn.train.figures import FLAGS, LOSS, RATE, VALID_LOSS, is_validation, validation_name
from fnn.types import History, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN_COLOR = PALETTE[0]
VALID_COLOR = PALETTE[1]
RATE_COLOR = PALETTE[2]
WINDOW = 0.05  # share of the run that the moving average and the standard deviation are over
MAX_POINTS = 500  # points of the moving average; more would not be visible
LOG_RATIO = 4  # ratio of the highest to the lowest value above which an axis is logarithmic
DROP = 0.2  # relative decrease of the rate within one step that is marked


def plot_curves(result: Result | History, path: FilePath | None = None) -> "Figure":
    """Plot the learning curves of a run: loss and metrics, the best epoch and the learning rate.

    Each panel shows the steps as points, their moving average as a line and one standard deviation
    around it as a band; validation figures at the end of each epoch; and the best epoch, that of
    the lowest valid_loss. Epochs are drawn as equal shares of the steps, which is slightly late for
    a run that stopped within an epoch: a history does not hold their ends. A drop of the rate by a
    fifth or more within one step is marked in every panel, except in a smooth descent. Needs
    matplotlib: pip install '.[plot]'.

    Args:
        result: The result of a run, or its history. Histories with a lane axis, from a vmapped run,
            show the mean over lanes and the standard deviation between them; a lane is left out
            while its loss is not finite.
        path: The file to write, such as "curves.png"; not written if None.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ShapeError: The history has no step.
        ConfigError: The suffix of `path` is not a picture format, its folder does not exist, or
            matplotlib is not installed.
    """
    history = result.history if isinstance(result, Result) else result
    if not history[LOSS].size:
        raise ShapeError(
            "plot_curves",
            "a history of one step or more",
            history,
            "draw it when the run has begun",
        )
    arrays = {name: np.asarray(history[name], float) for name in history}
    rank = arrays[LOSS].ndim
    # One number for each step or epoch: (steps,) -> (1, steps), or (lanes, steps) as it is.
    all_lanes = {name: np.atleast_2d(array) for name, array in arrays.items() if array.ndim == rank}
    lanes = {name: _finite_lanes(all_lanes, name) for name in all_lanes}
    names = [name for name in lanes if name not in FLAGS and not is_validation(name)]
    figure, target = create_figure("plot_curves", path, figsize=(4 * len(names), 3.6))
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        _draw_panel(axes, lanes, name)
    return save_figure(figure, target)


def _finite_lanes(history: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Set (lanes, steps) to NaN where the loss is not finite; a single run stays as it is."""
    lanes = history[name]
    if len(lanes) == 1:
        return lanes
    loss = history[VALID_LOSS if is_validation(name) else LOSS]
    return np.where(np.isfinite(loss), lanes, np.nan)


def find_drops(rates: np.ndarray) -> np.ndarray:
    """Return the steps, counted from 1, whose rate is far below that of the step before.

    The drop must be in all lanes with a finite rate. A step next to another drop is part of a
    smooth descent, such as the end of a cosine, and is not returned.

    Args:
        rates: (lanes, steps).
    """
    before = rates[:, :-1]
    after = rates[:, 1:]
    is_drop = (after <= (1 - DROP) * before) & (before > 0)
    in_all_lanes = (is_drop | np.isnan(after)).all(0) & is_drop.any(0)
    # A step without a drop at both ends gives every step two neighbors.
    padded = np.pad(in_all_lanes, 1)
    is_single = padded[1:-1] & ~padded[:-2] & ~padded[2:]
    # Index 0 is the change from step 1 to step 2.
    return np.flatnonzero(is_single) + 2


def _draw_panel(axes: "Axes", history: dict[str, np.ndarray], name: str) -> None:
    lanes = history[name]  # (lanes, steps)
    steps = np.arange(1, lanes.shape[1] + 1)
    drops = find_drops(history[RATE]) if RATE in history else np.array([], int)
    if name == RATE:
        _draw_rate(axes, steps, lanes, drops)
    else:
        _draw_training(axes, steps, lanes)
    for step in drops:
        axes.axvline(step, color=RATE_COLOR, linewidth=0.8, alpha=0.6, zorder=0)
    valid = history.get(validation_name(name), np.empty(0))
    if valid.size:
        _draw_validation(axes, valid, len(steps), history[VALID_LOSS])
    if name == LOSS:
        valid_loss = history.get(VALID_LOSS, lanes)
        _set_scale(axes, np.concatenate([lanes.ravel(), valid_loss.ravel()]))
    axes.set_title(_title(name, lanes))
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if name != RATE or drops.size:
        axes.legend(edgecolor="none", fontsize="small")


def _title(name: str, lanes: np.ndarray) -> str:
    """Return the title of a panel; that of the loss counts the runs left, if some diverged."""
    if name == RATE:
        return "learning rate"
    finite = np.isfinite(lanes[:, -1]).sum()
    if name == LOSS and finite < len(lanes) and len(lanes) > 1:
        return f"{name}, {finite} of {len(lanes)} runs left"
    return name


def _set_scale(axes: "Axes", values: np.ndarray) -> None:
    """Make the vertical axis logarithmic if the values are positive and differ by a large ratio."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.max() > LOG_RATIO * finite.min() > 0:
        axes.set_yscale("log", subs=[2, 5])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")


def _draw_rate(axes: "Axes", steps: np.ndarray, lanes: np.ndarray, drops: np.ndarray) -> None:
    axes.plot(steps, lanes.T, color=RATE_COLOR, alpha=max(0.2, 1 / len(lanes)))
    axes.plot(drops, lanes[:, drops - 1].T, "v", color=RATE_COLOR, label="dropped")
    # A single schedule that decays to 0 stays linear: the scale compares the peaks of the lanes.
    peaks = np.max(lanes, axis=1, where=lanes > 0, initial=0)
    _set_scale(axes, peaks)
    is_linear = axes.get_yscale() == "linear"
    axes.set_ylim(bottom=0 if is_linear else None)


def _draw_training(axes: "Axes", steps: np.ndarray, lanes: np.ndarray) -> None:
    """Draw every step as a faint point, the moving average, and a band of one deviation."""
    width = max(1, round(WINDOW * len(steps)))
    starts = np.unique(np.linspace(0, len(steps) - width, MAX_POINTS).astype(int))
    windows = [finite_moments(lanes[:, start : start + width]) for start in starts]
    mean, deviation = np.array(windows).T
    centers = steps[starts + width // 2]
    # matplotlib draws columns: (lanes, steps) -> (steps, lanes)
    x = np.tile(steps, (len(lanes), 1)).T
    axes.plot(x, lanes.T, ".", color=TRAIN_COLOR, alpha=0.25, markersize=2)
    # The band ends at the lowest value: a loss could not be negative.
    lowest = np.min(lanes, where=np.isfinite(lanes), initial=np.inf)
    low = np.maximum(mean - deviation, lowest)
    high = mean + deviation
    axes.fill_between(centers, low, high, color=TRAIN_COLOR, alpha=0.2, linewidth=0)
    label = "training" if width == 1 else f"training, mean of {width} steps"
    axes.plot(centers, mean, color=TRAIN_COLOR, label=label)


def _draw_validation(axes: "Axes", lanes: np.ndarray, steps: int, valid_loss: np.ndarray) -> None:
    """Draw the figures of each epoch, a band of one deviation between lanes, and the best epoch.

    Args:
        axes: The panel.
        lanes: (lanes, epochs).
        steps: Steps of the run.
        valid_loss: (lanes, epochs); its lowest mean is the best epoch.
    """
    epochs = lanes.shape[1]
    ends = np.arange(1, epochs + 1) * steps / epochs
    mean, deviation = np.array([finite_moments(column) for column in lanes.T]).T
    axes.plot(ends, mean, "o-", color=VALID_COLOR, markersize=3, label="validation")
    if len(lanes) > 1:
        low = mean - deviation
        high = mean + deviation
        axes.fill_between(ends, low, high, color=VALID_COLOR, alpha=0.2, linewidth=0)
    losses = [finite_moments(column)[0] for column in valid_loss.T]
    if not np.isfinite(losses).any():
        return
    best = int(np.nanargmin(losses))
    axes.plot(
        ends[best],
        mean[best],
        "*",
        color=VALID_COLOR,
        markeredgecolor="black",
        markersize=11,
        label=f"best epoch, {best + 1}: {mean[best]:.4g}",
    )


def finite_moments(values: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of the finite values; NaN if there are none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.nan, np.nan
    return finite.mean(), finite.std()
