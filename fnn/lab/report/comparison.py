"""Two runs side by side: their figures, curves, findings and recipes."""

import difflib
import re

import numpy as np

from fnn.lab.plots.axis import set_scale
from fnn.lab.plots.figure import PALETTE
from fnn.lab.report.content import Report, Series
from fnn.lab.report.markup import Markup, element, grid, notice, section, table
from fnn.lab.report.svg import create_panel, figure_markup
from fnn.train.figures import LOSS, RATE, VALID_LOSS, is_validation

MAX_PANELS = 6
ON_LOG_SCALE = (LOSS, VALID_LOSS, RATE)  # where their values lie far apart
WINDOW = 0.05  # share of the steps of a moving average
# Colors, lines and markers of the two runs, which differ without color.
STYLES = ((PALETTE[0], "-", "o"), (PALETTE[1], "--", "s"))
TOKEN = re.compile(r"\w+|\s+|[^\w\s]")


def comparison_section(this: Report, other: Report, title: str) -> Markup:
    """Return the section that compares a run with another one.

    Args:
        this: The run of the report.
        other: The other run.
        title: Name of the other run.
    """
    runs = {"this run": this, title: other}
    names = [name for name in this.history if name in other.history]
    drawn = [name for name in names if this.history[name].values.ndim == 1]
    figures = [
        _panel(
            index,
            name,
            {run: one.history[name] for run, one in runs.items()},
        )
        for index, name in enumerate(drawn[:MAX_PANELS])
    ]
    return section(
        "comparison",
        "Comparison",
        _figure_table(runs),
        grid(figures),
        _finding_table(runs),
        *_recipes(runs),
    )


def _figure_table(runs: dict[str, Report]) -> Markup:
    """Return the final figures of both runs, and their differences."""
    this, other = runs.values()
    more = this.steps - other.steps
    rows: list[tuple[object, ...]] = [("steps", this.steps, other.steps, more)]
    for part, figures in this.figures.items():
        for name, value in figures.items():
            against = other.figures.get(part, {}).get(name)
            if against is not None:
                rows.append((f"{part}: {name}", value, against, f"{value - against:+.4g}"))
    return table(("figure", *runs, "difference"), rows)


def _panel(index: int, name: str, series: dict[str, Series]) -> Markup:
    from matplotlib.ticker import MaxNLocator

    figure, axes = create_panel()
    axes.set_ylabel(name)
    curves = {run: moving_average(one) for run, one in series.items()}
    if name in ON_LOG_SCALE:
        set_scale(axes, np.concatenate([curve.values for curve in curves.values()]))
    for (run, curve), (color, line, marker) in zip(curves.items(), STYLES, strict=True):
        interval = max(1, len(curve.steps) // 8)
        # A name that begins with _ would have no entry in the legend.
        axes.plot(
            curve.steps, curve.values, line,
            color=color, marker=marker, markevery=interval, markersize=4, label=f"\u200b{run}",
        )  # fmt: skip
    axes.set_xlabel("epoch" if is_validation(name) else "step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set_title(name)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    return figure_markup(f"compare-{index}", figure, f"{name} of both runs.")


def moving_average(series: Series) -> Series:
    """Return the mean of the finite values of each window; NaN where there is none.

    Args:
        series: With values (n,).
    """
    values = series.values.astype(float)
    width = max(1, round(WINDOW * len(values)))
    # (n - width + 1, width)
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    is_finite = np.isfinite(windows)
    counts = is_finite.sum(1)
    sums = np.where(is_finite, windows, 0).sum(1)
    means = np.where(
        counts > 0,
        sums / np.maximum(counts, 1),
        np.nan,
    )
    first = width // 2
    return Series(series.steps[first : first + len(means)], means)


def _finding_table(runs: dict[str, Report]) -> Markup:
    """Return the findings that either run has."""
    names: dict[tuple[str, str], list[str]] = {}
    for index, report in enumerate(runs.values()):
        for finding in report.findings or ():
            cells = names.setdefault((finding.id, finding.name), ["", ""])
            cells[index] = cells[index] or finding.severity
    if not names:
        return Markup()
    rows = [(f"{id} {name}", *cells) for (id, name), cells in names.items()]
    return table(("finding", *runs), rows)


def _recipes(runs: dict[str, Report]) -> list[Markup]:
    """Return the code of both recipes, with marks where they differ."""
    this, other = (report.recipe for report in runs.values())
    if not (this and other):
        return []
    heading = element("h3", "Recipes")
    if this == other:
        return [heading, notice("Both runs have the same recipe.")]
    left = TOKEN.findall(this)
    right = TOKEN.findall(other)
    sides: tuple[list[object], list[object]] = ([], [])
    matcher = difflib.SequenceMatcher(
        None,
        left,
        right,
        autojunk=False,
    )
    for kind, start, stop, first, last in matcher.get_opcodes():
        for side, tokens in zip(
            sides,
            (left[start:stop], right[first:last]),
            strict=True,
        ):
            text = "".join(tokens)
            # A mark of blanks would not be visible.
            is_marked = kind != "equal" and text.strip()
            side.append(element("mark", text) if is_marked else text)
    boxes = []
    for run, side in zip(runs, sides, strict=True):
        code = element("pre", *side)
        boxes.append(element("figure", element("figcaption", run), code))
    return [heading, element("div", *boxes, class_="pair")]
