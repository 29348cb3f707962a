"""Plot of learning rate schedules."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.lab.plots.axis import mark_nonfinite, set_scale
from fnn.lab.plots.class_names import shorten_all, text_width
from fnn.lab.plots.figure import PALETTE, FilePath, create_figure, save_figure
from fnn.types import ScheduleFunction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The next one after all colors are used: dashes and gaps, in points.
LINE_STYLES = ("-", "--", ":", "-.", (0, (8, 2)), (0, (1, 3)), (0, (6, 2, 1, 2, 1, 2)), (0, (3, 4)))
MAX_NAME_WIDTH = 30  # columns of a name; longer ones are shortened
ROWS_OF_LEGEND = 16
INCHES_PER_COLUMN = 0.095  # of the text of the legend
MARGIN = 0.02  # of the axis, at both ends
PEAK_RATIO = 20  # of the highest to the lowest peak above which the axis is logarithmic

Schedules = ScheduleFunction | Mapping[str, ScheduleFunction]


def plot_schedule(
    schedule: Schedules,
    path: FilePath | None = None,
    *,
    steps: int,
) -> "Figure":
    """Plot a schedule, or several by name, from step 0 on.

    Steps whose rate is not finite are marked at the upper edge. The axis is logarithmic, and says
    so, where the peaks of several schedules differ by a factor of 20 or more. Needs matplotlib:
    pip install '.[plot]'.

    Args:
        schedule: A schedule, a function step -> rate; or several by name.
        path: The file to write, such as "schedule.png"; not written if None.
        steps: The last step.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ConfigError: `schedule` is not a schedule, `steps` is not a whole number >= 1, the suffix of
            `path` is not a picture format, its folder does not exist, or matplotlib is not
            installed.
        ShapeError: A rate is not one number.
    """
    named = schedule if isinstance(schedule, Mapping) else {"": schedule}
    if not named:
        expected = "a function step -> rate, or some by name"
        raise ConfigError("plot_schedule", expected, "none", "name one or more")
    for name, function in named.items():
        if not callable(function):
            raise ConfigError(
                f"plot_schedule {name}".strip(),
                "a function step -> rate",
                repr(function),
                "call its maker, as in optim.cosine(0.1, steps=100)",
            )
    # int32, as the step of a train state.
    time = jnp.arange(checks.whole("plot_schedule steps", steps) + 1, dtype=jnp.int32)
    names = shorten_all(list(named), MAX_NAME_WIDTH)
    has_legend = isinstance(schedule, Mapping)
    legend_columns = -(-len(names) // ROWS_OF_LEGEND) if has_legend else 0
    # The legend adds to the width, so that the axes keep theirs. A line sample takes 4 columns.
    name_width = max(map(text_width, names), default=0) + 4
    width = 8 + legend_columns * INCHES_PER_COLUMN * name_width
    figure, target = create_figure("plot_schedule", path, figsize=(width, 4))
    axes = figure.subplots()
    curves = []
    lines = []
    for index, function in enumerate(named.values()):
        # Seven colors, then the same colors with another line style.
        repetition, color_index = divmod(index, len(PALETTE))
        color = PALETTE[color_index]
        style = LINE_STYLES[repetition % len(LINE_STYLES)]
        # All steps in one call: a schedule is a function of a traced step.
        rates = np.asarray(jax.vmap(function)(time), float)
        if rates.shape != time.shape:
            raise ShapeError(
                f"plot_schedule {list(named)[index]}".strip(),
                "one rate for a step, shape ()",
                f"shape {rates.shape[1:]}",
                "give a function of one rate",
            )
        curves.append(rates)
        lines += axes.plot(time, rates, color=color, linestyle=style, label=names[index])
        mark_nonfinite(axes, np.asarray(time), rates, color)
    axes.set_xlabel("step")
    axes.set_ylabel("rate")
    # All steps, also where a rate is not a number.
    axes.set_xlim(-MARGIN * steps, (1 + MARGIN) * steps)
    _set_rate_scale(axes, np.array(curves))
    axes.grid(alpha=0.3)
    if has_legend:
        # matplotlib leaves out names that begin with _, unless an invisible character comes before.
        labels = [f"\u200b{name}" for name in names]
        figure.legend(
            lines, labels, loc="outside right upper", frameon=False, ncols=max(1, legend_columns)
        )
    return save_figure(figure, target)


def _set_rate_scale(axes: "Axes", curves: np.ndarray) -> None:
    """Set the vertical axis: from 0, or from the lowest rate below 0; logarithmic for far peaks.

    Args:
        axes: The panel.
        curves: (schedules, steps).
    """
    finite = np.where(np.isfinite(curves), curves, 0)
    lowest = finite.min(initial=0)
    # A schedule that decays to 0 stays linear: the scale compares the peaks.
    peaks = finite.max(1)
    set_scale(axes, peaks, needs=PEAK_RATIO)
    if axes.get_yscale() == "log":
        # Room for the decay of the lowest one.
        axes.set_ylim(bottom=peaks[peaks > 0].min() / PEAK_RATIO)
        return
    axes.set_ylim(bottom=min(0, 1.05 * lowest))
    if lowest < 0:
        axes.axhline(0, color="black", linewidth=0.8)
