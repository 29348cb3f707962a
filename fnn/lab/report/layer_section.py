"""The section of layers: statistics over depth and time, and at the first step."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fnn.lab.plots.axis import set_log_x
from fnn.lab.plots.class_names import shorten_all
from fnn.lab.plots.figure import PALETTE, SEQUENTIAL
from fnn.lab.report.content import Series
from fnn.lab.report.markup import Markup, grid, notice, section, table
from fnn.lab.report.svg import create_panel, figure_markup

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
MAX_COLUMNS = 200  # steps of a heat map
MAX_LABELS = 24  # layers with a name at the axis
MAX_ROWS = 60  # layers in a table
NAME_WIDTH = 20  # columns of a name at the axis
ROW_HEIGHT = 0.17  # inches of a layer
MIN_HEIGHT, MAX_HEIGHT = 2.2, 6.0
BAD = "0.85"  # gray of values that cannot be drawn

Columns = Mapping[str, tuple[str, ...]]


def layer_section(history: Mapping[str, Series], columns: Columns) -> Markup | None:
    """Return the section, or None for a run without instruments.

    Args:
        history: Sampled figures.
        columns: Names of the layers or parameters of each figure.
    """
    measured = [
        name
        for name in INSTRUMENTS
        if name in history and history[name].values.size and history[name].values.ndim == 2
    ]
    if not measured:
        return None
    maps = [_heat_map(name, history[name], columns[name]) for name in measured]
    profiles = [
        _profile(name, history[name], columns[name]) for name in PROFILE if name in measured
    ]
    first = min(int(history[name].steps[0]) for name in measured)
    text = "Rows are in the order of the network, from the input at the top. Gray: 0, or no value."
    tables = [
        _table(group, title, history, columns)
        for group, title in ((ACTIVATIONS, "layer"), (PARAMETERS, "parameter"))
    ]
    return section(
        "layers",
        "Layers",
        notice(text),
        grid(maps),
        Markup(f"<h3>At step {first}</h3>"),
        grid(profiles),
        Markup("<h3>First and last measured step</h3>"),
        *tables,
    )


def _heat_map(name: str, series: Series, names: tuple[str, ...]) -> Markup:
    """Return the heat map of a figure over depth and time."""
    import matplotlib
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import LogLocator, NullFormatter

    title, scale = INSTRUMENTS[name]
    chosen = np.unique(np.linspace(0, len(series.steps) - 1, MAX_COLUMNS).astype(int))
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
    height = float(np.clip(1.0 + ROW_HEIGHT * len(names), MIN_HEIGHT, MAX_HEIGHT))
    figure, axes = create_panel(height)
    colors = matplotlib.colormaps[SEQUENTIAL].with_extremes(bad=BAD)
    edges = _edges(steps)
    rows = np.arange(len(names) + 1) - 0.5
    image = axes.pcolormesh(edges, rows, values, cmap=colors, norm=norm, rasterized=True)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_facecolor(BAD)
    _name_rows(axes, names)
    axes.set_xlabel("step")
    axes.set_title(name)
    bar = figure.colorbar(image, ax=axes, label="log scale" if is_log else "")
    if is_log:
        few = high / low < 100
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=8))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    return figure_markup(name.replace("_", "-"), figure, f"{title}.")


def _edges(steps: np.ndarray) -> np.ndarray:
    """Return the edges of the columns: halfway between measured steps."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middles = (steps[:-1] + steps[1:]) / 2
    first = steps[0] - (middles[0] - steps[0])
    last = steps[-1] + (steps[-1] - middles[-1])
    return np.concatenate([[first], middles, [last]])


def _name_rows(axes: "Axes", names: tuple[str, ...]) -> None:
    interval = -(-len(names) // MAX_LABELS)
    ticks = np.arange(0, len(names), interval)
    short = shorten_all(names, NAME_WIDTH)
    axes.set_yticks(ticks, [short[tick] for tick in ticks], fontsize=8)


def _profile(name: str, series: Series, names: tuple[str, ...]) -> Markup:
    """Return the panel of a figure over depth, at the first and the last measured step."""
    height = float(np.clip(1.0 + ROW_HEIGHT * len(names), MIN_HEIGHT, MAX_HEIGHT))
    figure, axes = create_panel(height)
    depth = np.arange(len(names))
    ends = series.values[[0, -1]].astype(float)
    labels = [f"step {step}" for step in series.steps[[0, -1]]]
    for values, label, style in zip(ends, labels, ("o-", "s:"), strict=True):
        color = PALETTE[0] if style == "o-" else PALETTE[1]
        axes.plot(values, depth, style, color=color, markersize=4, label=label)
        if len(series.steps) == 1:
            break
    axes.set_ylim(len(names) - 0.5, -0.5)
    _name_rows(axes, names)
    axes.set_xlabel(name)
    positive = ends[np.isfinite(ends) & (ends > 0)]
    if INSTRUMENTS[name][1] == LOG and positive.size == np.isfinite(ends).sum():
        set_log_x(axes)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure_markup(f"profile-{name}".replace("_", "-"), figure, f"{name} over depth.")


def _table(
    group: Mapping[str, tuple[str, str]],
    title: str,
    history: Mapping[str, Series],
    columns: Columns,
) -> Markup:
    """Return a table of the first and last values of the figures of a group."""
    names = [name for name in group if name in history and history[name].values.size]
    if not names:
        return Markup()
    rows = []
    layers = columns[names[0]]
    for index, layer in enumerate(layers[:MAX_ROWS]):
        cells = [layer]
        for name in names:
            values = history[name].values
            cells.append(f"{values[0, index]:.3g} → {values[-1, index]:.3g}")
        rows.append(cells)
    caption = None
    if len(layers) > MAX_ROWS:
        caption = f"The first {MAX_ROWS} of {len(layers)}."
    return table((title, *names), rows, caption=caption)
