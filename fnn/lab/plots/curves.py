"""Plot of the learning curves of a run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.lab.plots.axis import mark_beyond, mark_nonfinite, set_scale
from fnn.lab.plots.figure import PALETTE, FilePath, create_figure, save_figure
from fnn.train.early_stopping import Watch
from fnn.train.figures import FLAGS, LOSS, RATE, VALID_LOSS, is_validation, validation_name
from fnn.types import History, Result, TrainState

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN_COLOR = PALETTE[0]
VALID_COLOR = PALETTE[1]
RATE_COLOR = PALETTE[2]
LINE_COLOR = "#003a5c"  # darker than the points
MAX_COLUMNS = 4  # panels in a row
WINDOW = 0.05  # share of the run that the moving average and the standard deviation are over
MAX_POINTS = 500  # points of the moving average; more would not be visible
POINTS = 500  # that are drawn with an opacity of 1 in total, within the following limits
MIN_ALPHA = 0.02
MAX_ALPHA = 0.25
FEW_STEPS = 20  # whose points are drawn larger
LOW_RATE = 0.05  # share of the peak below which a linear axis cannot show a rate
LOW_SHARE = 0.2  # share of steps with such a rate above which the axis is logarithmic
DROP = 0.2  # relative decrease of the rate within one step that is marked

BestEpoch = tuple[str, int]  # why it is the best, and its index


def plot_curves(
    result: Result | History,
    path: FilePath | None = None,
    *,
    steps_per_epoch: int | None = None,
) -> "Figure":
    """Plot the learning curves of a run: loss and metrics, the best epoch and the learning rate.

    Each panel shows the steps as points, their moving average as a line and one standard deviation
    around it as a band; validation figures at the end of each epoch; and the best epoch: the one
    that early stopping kept, by the figure that it monitors, else that of the lowest valid_loss.
    On a logarithmic axis, which says so, the line is the moving median and the band holds two
    thirds of the steps, since a single step may be larger by powers of ten. Such steps are marked
    at the upper edge, and so are steps and epochs that are not finite. A drop of the rate by a
    fifth or more within one step is marked in every panel, except in a smooth descent.
    Needs matplotlib: pip install '.[plot]'.

    Args:
        result: The result of a run, or its history, which does not know of early stopping.
            Histories with a lane axis, from a vmapped run, show the mean over lanes and the
            standard deviation between them; a lane is left out while its loss is not finite.
        path: The file to write, such as "curves.png"; not written if None.
        steps_per_epoch: Steps of an epoch. If None, epochs are equal shares of the steps, which
            draws validation too late for a run that stopped within an epoch: a history does not
            hold the ends of its epochs.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ShapeError: The history has no step.
        ConfigError: `result` has no loss, `steps_per_epoch` does not fit the history, the suffix of
            `path` is not a picture format, its folder does not exist, or matplotlib is not
            installed.
    """
    curves = read_curves("plot_curves", result, steps_per_epoch)
    names = curves.names
    columns = min(len(names), MAX_COLUMNS)
    rows = -(-len(names) // columns)
    figure, target = create_figure("plot_curves", path, figsize=(4 * columns, 3.6 * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.remove()
    for axes, name in zip(panels, names, strict=False):
        draw_panel(axes, curves, name)
    return save_figure(figure, target)


class Curves(NamedTuple):
    """The figures of a run, as the panels draw them.

    Attributes:
        lanes: Figures by name, (lanes, steps) or (lanes, epochs); one lane for a single run.
        epoch_steps: Steps of an epoch.
        best: The best epoch; None if there is none.
    """

    lanes: dict[str, np.ndarray]
    epoch_steps: float
    best: BestEpoch | None

    @property
    def names(self) -> list[str]:
        """Names of the panels: the figures of steps."""
        return [name for name in self.lanes if name not in FLAGS and not is_validation(name)]


def read_curves(where: str, result: Result | History, steps_per_epoch: int | None = None) -> Curves:
    """Return the figures of a run; an error if there are none.

    Args:
        where: Name of the function, for errors.
        result: Of a run, or its history.
        steps_per_epoch: The number, or None for equal shares of the steps.
    """
    history = result.history if isinstance(result, Result) else result
    if not isinstance(history, Mapping) or LOSS not in history:
        raise ConfigError(
            where,
            "a result or its history, with a loss",
            checks.show(history),
            "give what train.run or lab.fit returns",
        )
    if not history[LOSS].size:
        raise ShapeError(
            where,
            "a history of one step or more",
            history,
            "draw it when the run has begun",
        )
    arrays = {name: np.asarray(history[name], float) for name in history}
    rank = arrays[LOSS].ndim
    # One number for each step or epoch: (steps,) -> (1, steps), or (lanes, steps) as it is.
    all_lanes = {name: np.atleast_2d(array) for name, array in arrays.items() if array.ndim == rank}
    lanes = {name: _finite_lanes(all_lanes, name) for name in all_lanes}
    epoch_steps = _epoch_steps(lanes, steps_per_epoch)
    best = _lowest_loss(lanes)
    if isinstance(result, Result) and rank == 1:
        best = _kept_epoch(result.train_state, lanes, epoch_steps) or best
    return Curves(lanes, epoch_steps, best)


def _epoch_steps(history: dict[str, np.ndarray], steps_per_epoch: int | None) -> float:
    """Return the number of steps of an epoch.

    Args:
        history: Figures by name, (lanes, steps) or (lanes, epochs).
        steps_per_epoch: The number, or None for equal shares of the steps.
    """
    steps = history[LOSS].shape[1]
    epochs = history[VALID_LOSS].shape[1] if VALID_LOSS in history else 0
    if steps_per_epoch is None:
        return steps / max(1, epochs)
    count = checks.whole("plot_curves steps_per_epoch", steps_per_epoch)
    if epochs and not epochs * count <= steps < (epochs + 1) * count:
        raise ConfigError(
            "plot_curves steps_per_epoch",
            f"a number of which {steps} steps hold {epochs} epochs",
            count,
            "leave it out, or give that of the run",
        )
    return count


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


def _lowest_loss(history: dict[str, np.ndarray]) -> BestEpoch | None:
    """Return the epoch of the lowest validation loss, in the mean over lanes; None for none."""
    if VALID_LOSS not in history:
        return None
    losses = [finite_band(column)[1] for column in history[VALID_LOSS].T]
    if not np.isfinite(losses).any():
        return None
    return f"lowest {VALID_LOSS}", int(np.nanargmin(losses))


def _kept_epoch(
    train_state: TrainState, history: dict[str, np.ndarray], epoch_steps: float
) -> BestEpoch | None:
    """Return the epoch that early stopping found to be the best; None if there was none."""
    watch = train_state.watch
    if not isinstance(watch, Watch):
        return None
    # One of them is the step of the best epoch, the other one that of the last.
    best_step, last_step = sorted((int(train_state.step), int(watch.kept[3])))
    # The steps before a resumed run are not in its history.
    before = max(0, last_step - history[LOSS].shape[1])
    epoch = round((best_step - before) / epoch_steps) - 1
    # The monitored figure is the one that had its best value then.
    best = float(watch.best)
    for name, lanes in history.items():
        is_known = is_validation(name) and 0 <= epoch < lanes.shape[1]
        if is_known and lanes[0, epoch] == best:
            return f"best {name}", epoch
    return None


def draw_panel(axes: "Axes", curves: Curves, name: str) -> None:
    """Draw a figure of the steps, with that of validation.

    Args:
        axes: The panel.
        curves: Of the run.
        name: Name of the figure.
    """
    history = curves.lanes
    lanes = history[name]  # (lanes, steps)
    steps = np.arange(1, lanes.shape[1] + 1)
    drops = find_drops(history[RATE]) if RATE in history else np.array([], int)
    valid = history.get(validation_name(name), np.empty((len(lanes), 0)))
    if name == RATE:
        _set_rate_scale(axes, lanes)
        _draw_rate(axes, steps, lanes, drops)
    else:
        if name == LOSS:
            set_scale(axes, np.concatenate([lanes.ravel(), valid.ravel()]))
        _draw_training(axes, steps, lanes)
    for step in drops:
        axes.axvline(step, color=RATE_COLOR, linewidth=0.8, alpha=0.6, zorder=0)
    if valid.size:
        _draw_validation(axes, valid, curves.epoch_steps, curves.best)
    if not np.isfinite(lanes).any() and not np.isfinite(valid).any():
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", va="center")
        axes.set_yticks([])
    axes.set_xlim(*_x_limits(len(steps)))
    axes.set_title(_title(name, lanes))
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(edgecolor="none", fontsize="small")


def _x_limits(steps: int) -> tuple[float, float]:
    # All steps, also where nothing can be drawn.
    margin = 0.03 * max(steps, 10)
    return 1 - margin, steps + margin


def _title(name: str, lanes: np.ndarray) -> str:
    """Return the title of a panel; that of the loss counts the runs left, if some diverged."""
    if name == RATE:
        return "learning rate"
    finite = np.isfinite(lanes[:, -1]).sum()
    if name == LOSS and finite < len(lanes) and len(lanes) > 1:
        return f"{name}, {finite} of {len(lanes)} runs left"
    return name


def _set_rate_scale(axes: "Axes", lanes: np.ndarray) -> None:
    """Set the vertical axis of rates: from 0, or logarithmic where rates lie far apart.

    Args:
        axes: The panel.
        lanes: (lanes, steps).
    """
    finite = np.where(np.isfinite(lanes), lanes, 0)
    peaks = finite.max(1)
    # A schedule that decays to 0 stays linear. One that stays far below its peak would be drawn on
    # the axis itself.
    is_low = (finite > 0) & (finite < LOW_RATE * peaks[:, None])
    if is_low.mean() > LOW_SHARE:
        set_scale(axes, finite)
    else:
        set_scale(axes, peaks)
    if axes.get_yscale() == "linear":
        axes.set_ylim(0, max(1.05 * peaks.max(), 1e-30))


def _draw_rate(axes: "Axes", steps: np.ndarray, lanes: np.ndarray, drops: np.ndarray) -> None:
    alpha = max(0.2, 1 / len(lanes))
    axes.plot(steps, lanes.T, _line_style(steps), color=RATE_COLOR, alpha=alpha)
    if drops.size:
        axes.plot(drops, lanes[:, drops - 1].T, "v", color=RATE_COLOR, label="dropped")
    mark_nonfinite(axes, steps, lanes, RATE_COLOR)


def _line_style(points: np.ndarray) -> str:
    # A line of one point has no length.
    return "-" if len(points) > 1 else "o"


def _draw_training(axes: "Axes", steps: np.ndarray, lanes: np.ndarray) -> None:
    """Draw every step as a faint point, the moving average, and a band around it."""
    width = max(1, round(WINDOW * len(steps)))
    starts = np.unique(np.linspace(0, len(steps) - width, MAX_POINTS).astype(int))
    is_log = axes.get_yscale() == "log"
    band_of = finite_quantiles if is_log else finite_band
    bands = [band_of(lanes[:, start : start + width]) for start in starts]
    low, middle, high = np.array(bands).T
    centers = steps[starts + width // 2]
    # matplotlib draws columns: (lanes, steps) -> (steps, lanes)
    x = np.tile(steps, (len(lanes), 1)).T
    # The line must be visible in a cloud of many points, and a single point without a line.
    alpha = float(np.clip(POINTS / lanes.size, MIN_ALPHA, MAX_ALPHA))
    size = 2 if len(steps) > FEW_STEPS else 6
    axes.plot(x, lanes.T, ".", color=TRAIN_COLOR, alpha=alpha, markersize=size, rasterized=True)
    # The band ends at the lowest value: a loss could not be negative.
    lowest = np.min(lanes, where=np.isfinite(lanes), initial=np.inf)
    low = np.maximum(low, lowest)
    axes.fill_between(centers, low, high, color=TRAIN_COLOR, alpha=0.2, linewidth=0)
    average = "median" if is_log else "mean"
    label = "training" if width == 1 else f"training, {average} of {width} steps"
    axes.plot(centers, middle, _line_style(centers), color=LINE_COLOR, label=label)
    if len(lanes) == 1:
        mark_nonfinite(axes, steps, lanes, TRAIN_COLOR)
    mark_beyond(axes, steps, lanes, TRAIN_COLOR)


def _draw_validation(
    axes: "Axes", lanes: np.ndarray, epoch_steps: float, best: BestEpoch | None
) -> None:
    """Draw the figures of each epoch, a band of one deviation between lanes, and the best epoch.

    Args:
        axes: The panel.
        lanes: (lanes, epochs).
        epoch_steps: Steps of an epoch.
        best: The best epoch.
    """
    epochs = lanes.shape[1]
    ends = np.arange(1, epochs + 1) * epoch_steps
    low, mean, high = np.array([finite_band(column) for column in lanes.T]).T
    axes.plot(ends, mean, "o-", color=VALID_COLOR, markersize=3, label="validation")
    if len(lanes) > 1:
        axes.fill_between(ends, low, high, color=VALID_COLOR, alpha=0.2, linewidth=0)
    else:
        mark_nonfinite(axes, ends, lanes, VALID_COLOR)
    if best is None:
        return
    reason, epoch = best
    axes.plot(
        ends[epoch],
        mean[epoch],
        "*",
        color=VALID_COLOR,
        markeredgecolor="black",
        markersize=11,
        label=f"{reason}, epoch {epoch + 1}: {mean[epoch]:.4g}",
    )


def finite_band(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of the finite values, and one deviation below and above; NaN for none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.nan, np.nan, np.nan
    mean, deviation = finite.mean(), finite.std()
    return mean - deviation, mean, mean + deviation


def finite_quantiles(values: np.ndarray) -> tuple[float, float, float]:
    """Return the median of the finite values, and the ends of their middle two thirds."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.nan, np.nan, np.nan
    low, middle, high = np.quantile(finite, [1 / 6, 1 / 2, 5 / 6])
    return low, middle, high
