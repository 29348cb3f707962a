"""Axes that cannot be misread: logarithmic ones say so, and missing values are marked."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOG_RATIO = 4  # ratio of the highest to the lowest value above which an axis is logarithmic
FEW_DECADES = 1.5  # below which the powers of ten alone are too few ticks
MIN_TICK_RATIO = 1.25  # of two labels of the horizontal axis
# Factors of the powers of ten at the labels of the horizontal axis: the first that give enough.
FACTORS: tuple[tuple[float, ...], ...] = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))
MIN_TICKS, MAX_TICKS = 3, 7
SPIKE = 10  # times the high quantile, above which a value is marked instead of drawn
HIGH_QUANTILE = 0.99
MAX_SHARE = 0.05  # of values that are 0 or less, above which an axis stays linear


def set_scale(axes: "Axes", values: np.ndarray, *, needs: float = LOG_RATIO) -> None:
    """Make the vertical axis logarithmic if the values are positive and differ by a large ratio.

    A few values of 0 or less, such as the loss of a batch that is learned, are marked at the lower
    edge instead of deciding the scale.

    Args:
        axes: The panel.
        values: All values of the panel.
        needs: The ratio.
    """
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    is_log = (
        len(finite) - len(positive) <= MAX_SHARE * len(finite)
        and positive.size > 1
        and positive.max() > needs * positive.min()
    )
    if not is_log:
        return
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    decades = np.log10(np.quantile(positive, HIGH_QUANTILE) / positive.min())
    subs = (1, 1.5, 2, 3, 4, 5, 6, 8) if decades < FEW_DECADES else (1, 2, 5)
    axes.set_yscale("log")
    if decades < 2 * FEW_DECADES:
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel(f"{axes.get_ylabel()} (log scale)".strip())
    # The limits of the data, since a value of 0 would have none; without spikes, which would leave
    # no room for all other steps.
    top = min(positive.max(), SPIKE * np.quantile(positive, HIGH_QUANTILE))
    margin = (top / positive.min()) ** 0.05
    axes.set_ylim(positive.min() / margin, top * margin)


def set_log_x(axes: "Axes", ticks: np.ndarray | None = None) -> None:
    """Make the horizontal axis logarithmic, say so, and label it by plain numbers.

    Args:
        axes: The panel, with its data, limits and label.
        ticks: Positions of the labels, of which close ones are left out; None for round numbers.
    """
    from matplotlib.ticker import NullFormatter, NullLocator

    axes.set_xscale("log")
    if ticks is None:
        low, high = axes.get_xlim()
        _label_round(axes, low, high)
    else:
        kept = [ticks[0]]
        for tick in ticks[1:]:
            if tick >= MIN_TICK_RATIO * kept[-1]:
                kept.append(tick)
        # One label alone would not show the scale.
        axes.set_xticks(kept if len(kept) > 1 else ticks[[0, -1]])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"{axes.get_xlabel()} (log scale)".strip())


def _label_round(axes: "Axes", low: float, high: float) -> None:
    """Label the horizontal axis at the fewest round numbers that show the scale."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for factors in FACTORS:
        ticks = np.outer(powers, factors)
        if ((ticks >= low) & (ticks <= high)).sum() < MIN_TICKS:
            continue
        axes.xaxis.set_major_locator(LogLocator(subs=factors, numticks=MAX_TICKS))
        if len(factors) > 1:
            axes.xaxis.set_minor_locator(NullLocator())
        return
    axes.xaxis.set_major_locator(MaxNLocator(MAX_TICKS - 2))
    axes.xaxis.set_minor_locator(NullLocator())


def mark_nonfinite(axes: "Axes", x: np.ndarray, values: np.ndarray, color: str) -> None:
    """Mark positions without a finite value by crosses at the upper edge.

    Args:
        axes: The panel.
        x: (n,).
        values: (n,), or (lanes, n), of which all lanes count.
        color: Color of the crosses.
    """
    # (n,) or (lanes, n) -> (n,)
    is_missing = ~np.isfinite(np.atleast_2d(values)).all(0)
    _mark_edge(axes, x[is_missing], 1, "x", color, "not finite")


def mark_beyond(axes: "Axes", x: np.ndarray, values: np.ndarray, color: str) -> None:
    """On a logarithmic axis, mark values of 0 or less at its lower edge, and spikes at the upper.

    Args:
        axes: The panel.
        x: (n,).
        values: (n,), or (lanes, n).
        color: Color of the triangles.
    """
    if axes.get_yscale() != "log":
        return
    _, top = axes.get_ylim()
    lanes = np.atleast_2d(values)
    # (lanes, n) -> (n,); comparisons with NaN are False
    _mark_edge(axes, x[(lanes <= 0).any(0)], 0, "v", color, "0 or less")
    _mark_edge(axes, x[((lanes > top) & np.isfinite(lanes)).any(0)], 1, "^", color, "higher")


def _mark_edge(axes: "Axes", x: np.ndarray, edge: int, marker: str, color: str, label: str) -> None:
    """Mark positions at the lower (0) or upper (1) edge of a panel."""
    if not x.size:
        return
    axes.plot(
        x,
        np.full(x.shape, edge),
        marker,
        color=color,
        markersize=5,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
        label=f"{label}: {x.size}",
    )
