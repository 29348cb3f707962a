"""The section of histograms: the distribution of the activations of layers over time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fnn.diagnose.layer_statistics import HISTOGRAM, HISTOGRAM_EDGES
from fnn.lab.plots.class_names import shorten_all
from fnn.lab.plots.figure import SEQUENTIAL
from fnn.lab.report.content import evenly_spaced
from fnn.lab.report.markup import Markup, grid, notice, section
from fnn.lab.report.svg import create_panel, figure_markup

MAX_LAYERS = 8  # with a panel
MAX_COLUMNS = 120  # steps of a panel
HEIGHT = 2.6  # inches
FULL_COLOR = 0.25  # share of the brightest color: of 40 bins, most have less than a tenth
TITLE_WIDTH = 40  # columns of the name of a layer
TICKS = (-10.0, -1.0, -0.1, 0.0, 0.1, 1.0, 10.0)  # values with a label


def histogram_section(history: Mapping[str, Any], names: Sequence[str] | None) -> Markup | None:
    """Return the section, or None for a run without histograms.

    Args:
        history: Figures of one run, with "activation_histogram" (steps, layers, bins).
        names: Of the layers; None for their numbers.
    """
    if HISTOGRAM not in history:
        return None
    # As differences of shares, some are below 0 by rounding.
    shares = np.maximum(np.asarray(history[HISTOGRAM], np.float32), 0)
    # Of steps that are not measured, all bins are NaN.
    measured = np.flatnonzero(~np.isnan(shares).all((1, 2)))
    if not len(measured):
        return None
    layers = shares.shape[1]
    if names is None:
        names = [f"layer {index}" for index in range(layers)]
    chosen = evenly_spaced(layers, MAX_LAYERS)
    steps = measured[evenly_spaced(len(measured), MAX_COLUMNS)]
    titles = shorten_all([names[index] for index in chosen], TITLE_WIDTH)
    panels = [
        _panel(
            f"histogram-{index}",
            title,
            steps + 1,
            shares[steps, index],
        )
        for index, title in zip(chosen, titles, strict=True)
    ]
    text = (
        "Each column is the histogram of a step; the darkest color is no activation. Bins are "
        "narrow near 0 and wide far from it."
    )
    if len(chosen) < layers:
        text += f" Shown are {len(chosen)} of {layers} layers, at even distances in depth."
    return section(
        "histograms",
        "Histograms",
        notice(text),
        grid(panels),
    )


def _panel(
    name: str,
    title: str,
    steps: np.ndarray,
    shares: np.ndarray,
) -> Markup:
    """Return the panel of a layer.

    Args:
        name: Of the figure in the page.
        title: Name of the layer.
        steps: Numbers of the steps (n,).
        shares: Of the bins (n, bins).
    """
    from matplotlib.ticker import MaxNLocator

    bins = shares.shape[1]
    figure, axes = create_panel(HEIGHT)
    middles = (steps[:-1] + steps[1:]) / 2
    half = float(np.median(np.diff(steps))) / 2 if len(steps) > 1 else 0.5
    edges = np.concatenate([[max(0.5, steps[0] - half)], middles, [steps[-1] + half]])
    # The root, so that bins of few activations are visible.
    image = axes.pcolormesh(
        edges,
        np.arange(bins + 1),
        np.sqrt(shares.T),
        cmap=SEQUENTIAL,
        vmin=0.0,
        vmax=np.sqrt(FULL_COLOR),
        rasterized=True,
    )
    # The first bin ends at the first edge.
    places = 1 + np.interp(TICKS, HISTOGRAM_EDGES, np.arange(len(HISTOGRAM_EDGES)))
    axes.set_yticks(places, [f"{value:g}" for value in TICKS])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel("step")
    axes.set_ylabel("activation")
    axes.set_title(title)
    # Larger shares have the last color.
    bar = figure.colorbar(image, ax=axes, label="share", extend="max")
    levels = np.array([0.0, 0.02, 0.1, FULL_COLOR])
    bar.set_ticks(np.sqrt(levels), labels=[f"{level:g}" for level in levels])
    last = shares[-1]
    zero = int(np.searchsorted(HISTOGRAM_EDGES, 0.0))
    text = f"Activations of {title} over time."
    if np.isfinite(last).all():
        outer = float(last[0] + last[-1])
        text += (
            f" At step {steps[-1]}, {float(last[:zero].sum()):.0%} are below 0, "
            f"{outer:.0%} beyond ±{HISTOGRAM_EDGES[-1]:.3g}."
        )
    return figure_markup(name, figure, text)
