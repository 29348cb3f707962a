"""The section of layers: statistics over depth and time, and at the first step."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fnn import diagnose
from fnn.lab.plots.axis import set_log_x
from fnn.lab.plots.class_names import shorten_all
from fnn.lab.plots.figure import PALETTE, SEQUENTIAL
from fnn.lab.report.content import Series, evenly_spaced
from fnn.lab.report.markup import Markup, element, grid, notice, section, table
from fnn.lab.report.svg import create_panel, figure_markup
from fnn.train.figures import LOSS
from fnn.train.recipe import Recipe
from fnn.train.step import start_on_data
from fnn.types import Data, TrainState

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINEAR, LOG, SHARE = "linear", "log", "share"
# Figures of layers with their meaning and scale.
ACTIVATIONS = {
    "activation_mean": ("Mean of the activations", LINEAR),
    "activation_std": ("Standard deviation of the activations", LOG),
    "dead_share": ("Share of dead units", SHARE),
    "saturated_share": ("Share of saturated units", SHARE),
}
PARAMETERS = {
    "grad_rms": ("Root mean square of the gradient", LOG),
    "weight_rms": ("Root mean square of the weights", LOG),
    "update_ratio": ("Update of a step relative to the weights; usual: 1e-4 to 1e-2", LOG),
}
INSTRUMENTS = ACTIVATIONS | PARAMETERS
# Figures whose course over depth shows the scale of the initialization.
PROFILE = ("activation_mean", "activation_std", "dead_share", "grad_rms")
MAX_COLUMNS = 120  # steps of a heat map
MAX_LABELS = 24  # layers with a name at the axis
MAX_ROWS = 60  # layers in a table
NAME_WIDTH = 20  # columns of a name at the axis
ROW_HEIGHT = 0.17  # inches of a layer
MIN_HEIGHT, MAX_HEIGHT = 2.2, 6.0
BAD = "0.85"  # gray of values that cannot be drawn

Columns = Mapping[str, tuple[str, ...]]


class Ends(NamedTuple):
    """Figures of layers and parameters at two train states.

    Attributes:
        labels: Names of the two train states.
        figures: By name, (2, columns).
        columns: Names of the layers or parameters of each figure.
    """

    labels: tuple[str, str]
    figures: Mapping[str, np.ndarray]
    columns: Columns


def measured_ends(recipe: Recipe, train_state: TrainState, data: Data) -> Ends:
    """Measure the network before and after training.

    Args:
        recipe: Of the run, with an optimizer.
        train_state: At the end of the run.
        data: Validated (inputs, targets) of training.
    """
    first = start_on_data(recipe, train_state.key, data)
    profiles = [diagnose.profile(recipe, one, data) for one in (first, train_state)]
    figures = {}
    columns = {}
    for name in INSTRUMENTS:
        if name in profiles[0].figures:
            figures[name] = np.stack([np.asarray(one.figures[name]) for one in profiles])
            is_layer = name in ACTIVATIONS
            columns[name] = profiles[0].layers if is_layer else profiles[0].parameters
    return Ends(("before training", "at the end"), figures, columns)


def recorded_ends(history: Mapping[str, Series], columns: Columns) -> Ends:
    """Return the figures at the first and the last measured step of a run.

    Args:
        history: Sampled figures.
        columns: Names of the layers or parameters of each figure.
    """
    names = [name for name in INSTRUMENTS if name in history and len(history[name].steps)]
    figures = {name: history[name].values[[0, -1]] for name in names}
    steps = [history[name].steps for name in names]
    first, last = (steps[0][0], steps[0][-1]) if steps else (0, 0)
    return Ends((f"step {first}", f"step {last}"), figures, columns)


def layer_section(history: Mapping[str, Series], columns: Columns, ends: Ends) -> Markup | None:
    """Return the section, or None without any statistics of layers.

    Args:
        history: Sampled figures.
        columns: Names of the layers or parameters of each figure.
        ends: Figures before and after training.
    """
    measured = [name for name in INSTRUMENTS if name in history and len(history[name].steps)]
    if not (measured or ends.figures):
        return None
    # Of a run that diverged, figures may have values at its first steps alone.
    last_step = max((int(history[name].steps[-1]) for name in measured), default=1)
    if LOSS in history:
        last_step = int(history[LOSS].steps[-1])
    maps = [
        _heat_map(
            name,
            history[name],
            columns[name],
            last_step,
        )
        for name in measured
    ]
    profiles = [_profile(name, ends) for name in PROFILE if _has_values(name, ends)]
    text = "Rows are in the order of the network, from the input at the top."
    if maps:
        text += " Gray: 0, or no value."
    tables = [_table(ACTIVATIONS, "layer", ends), _table(PARAMETERS, "parameter", ends)]
    first, last = ends.labels
    heading = element("h3", f"{first.capitalize()} → {last}")
    return section(
        "layers",
        "Layers",
        notice(text),
        grid(maps),
        heading,
        grid(profiles),
        *tables,
    )


def _has_values(name: str, ends: Ends) -> bool:
    return name in ends.figures and bool(np.isfinite(ends.figures[name]).any())


def _heat_map(
    name: str,
    series: Series,
    names: tuple[str, ...],
    last_step: int,
) -> Markup:
    """Return the heat map of a figure over depth and time."""
    import matplotlib
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    title, scale = INSTRUMENTS[name]
    series, names = _without_empty(series, names)
    chosen = evenly_spaced(len(series.steps), MAX_COLUMNS)
    steps = series.steps[chosen]
    # (steps, layers) -> (layers, steps)
    values = series.values[chosen].astype(float).T
    values = np.where(np.isfinite(values), values, np.nan)
    if scale == LOG:
        values = np.where(values > 0, values, np.nan)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    if scale == SHARE:
        low, high = 0.0, 1.0
    is_log = scale == LOG and 0 < low < high
    norm = LogNorm(low, high) if is_log else Normalize(low, max(high, low + 1e-12))
    figure, axes = create_panel(_height(names))
    colors = matplotlib.colormaps[SEQUENTIAL].with_extremes(bad=BAD)
    edges = _edges(steps, last_step)
    rows = np.arange(len(names) + 1) - 0.5
    image = axes.pcolormesh(
        edges,
        rows,
        values,
        cmap=colors,
        norm=norm,
        rasterized=True,
    )
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0.5, last_step + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_facecolor(BAD)
    _name_rows(axes, names)
    axes.set_xlabel("step")
    axes.set_title(name)
    bar = figure.colorbar(image, ax=axes, label="log scale" if is_log else "")
    if is_log:
        few = high / low < 100
        factors = (1, 2, 5) if few else (1,)
        bar.ax.yaxis.set_major_locator(LogLocator(subs=factors, numticks=8))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    return figure_markup(name.replace("_", "-"), figure, f"{title}.")


def _without_empty(series: Series, names: tuple[str, ...]) -> tuple[Series, tuple[str, ...]]:
    """Leave out layers without any value, such as those without dead units, unless all are."""
    has_value = ~np.isnan(series.values).all(0)
    if not has_value.any():
        return series, names
    kept = tuple(name for name, one in zip(names, has_value, strict=True) if one)
    return Series(series.steps, series.values[:, has_value]), kept


def _edges(steps: np.ndarray, last_step: int) -> np.ndarray:
    """Return the edges of the columns: halfway between measured steps.

    Args:
        steps: Measured steps, in order.
        last_step: Of the run.
    """
    middles = (steps[:-1] + steps[1:]) / 2
    half = np.median(np.diff(steps)) / 2 if len(steps) > 1 else 0.5
    first = max(0.5, steps[0] - half)
    last = steps[-1] + half
    # The column of the last measured step ends with the run, unless steps without values follow.
    if last_step - last < 2 * half:
        last = last_step + 0.5
    return np.concatenate([[first], middles, [last]])


def _name_rows(axes: "Axes", names: tuple[str, ...]) -> None:
    interval = -(-len(names) // MAX_LABELS)
    ticks = np.arange(0, len(names), interval)
    short = shorten_all(names, NAME_WIDTH)
    axes.set_yticks(ticks, [short[tick] for tick in ticks], fontsize=8)


def _profile(name: str, ends: Ends) -> Markup:
    """Return the panel of a figure over depth, at both ends."""
    ends_only = Series(np.arange(2), ends.figures[name].astype(float))
    series, names = _without_empty(ends_only, ends.columns[name])
    values = series.values
    finite = values[np.isfinite(values)]
    _, scale = INSTRUMENTS[name]
    is_log = scale == LOG and len(np.unique(finite[finite > 0])) > 1
    caption = f"{name} over depth."
    if is_log and (finite <= 0).any():
        caption += " Values of 0 are left out."
    figure, axes = create_panel(_height(names))
    depth = np.arange(len(names))
    for row, label, style, color in zip(
        values,
        ends.labels,
        ("o-", "s:"),
        PALETTE,
        strict=False,
    ):
        if not np.isfinite(row).any():
            label += ": not finite"
        kept = np.isfinite(row) & ((row > 0) | (not is_log))
        axes.plot(
            row[kept],
            depth[kept],
            style,
            color=color,
            markersize=4,
            label=label,
        )
    axes.set_ylim(len(names) - 0.5, -0.5)
    _name_rows(axes, names)
    axes.set_xlabel(name)
    if is_log:
        set_log_x(axes)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure_markup(f"profile-{name}".replace("_", "-"), figure, caption)


def _height(names: tuple[str, ...]) -> float:
    """Return the height of a panel with a row for each name, in inches."""
    return float(np.clip(1.0 + ROW_HEIGHT * len(names), MIN_HEIGHT, MAX_HEIGHT))


def _table(group: Mapping[str, tuple[str, str]], title: str, ends: Ends) -> Markup:
    """Return a table of the figures of a group at both ends."""
    names = [name for name in group if _has_values(name, ends)]
    if not names:
        return Markup()
    rows = []
    layers = ends.columns[names[0]]
    for index, layer in enumerate(layers[:MAX_ROWS]):
        cells = [layer]
        for name in names:
            first, last = ends.figures[name][:, index]
            # Other layers have no dead or saturated units.
            has_none = np.isnan([first, last]).all()
            cells.append("" if has_none else f"{first:.3g} → {last:.3g}")
        rows.append(cells)
    caption = None
    if len(layers) > MAX_ROWS:
        caption = f"The first {MAX_ROWS} of {len(layers)}."
    return table((title, *names), rows, caption=caption)
