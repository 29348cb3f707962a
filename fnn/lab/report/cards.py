"""The verdict of an examination, the next steps, and a card for each finding."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fnn.diagnose import Finding, Findings
from fnn.diagnose.findings import ERROR, INFO, LIKELY, REFUTED, WARNING
from fnn.lab.plots.axis import set_scale
from fnn.lab.plots.curves import Curves, draw_panel
from fnn.lab.plots.figure import PALETTE
from fnn.lab.report.content import Series, evenly_spaced
from fnn.lab.report.markup import Markup, element, items, join, section, show, table
from fnn.lab.report.svg import create_panel, figure_markup
from fnn.train.figures import LOSS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Signs that differ without color.
SIGNS = {ERROR: "✖", WARNING: "▲", INFO: "●"}
HEALTHY, UNKNOWN = "✔", "○"
MAX_STEPS = 5  # next steps in the list
MAX_FIGURES = 12  # cards with a figure
MAX_POINTS = 200  # of the line of a layer
MIN_SHARE = 0.01  # of the run: the least width of a shaded range, which stays visible
# Figures of a layer that show a fault; the loss shows the others.
EVIDENCE = {
    "T02": "grad_rms",
    "T03": "grad_rms",
    "T04": "update_ratio",
    "T05": "update_ratio",
    "T06": "dead_share",
    "T07": "saturated_share",
}
SHADE = PALETTE[4]

Columns = Mapping[str, tuple[str, ...]]


def verdict(findings: Findings | None) -> Markup:
    """Return the banner and the next steps."""
    if findings is None:
        advice = "Give findings=diagnose.examine(recipe, result, data, batch_size=...)."
        return banner(
            "unknown",
            UNKNOWN,
            "Not examined",
            advice,
        )
    active = [finding for finding in findings if finding.certainty != REFUTED]
    counts = {
        severity: sum(finding.severity == severity for finding in active) for severity in SIGNS
    }
    if counts[ERROR] or counts[WARNING]:
        worst = ERROR if counts[ERROR] else WARNING
        parts = [_count(counts[severity], severity) for severity in (ERROR, WARNING)]
        title = " and ".join(part for part in parts if part)
        text = active[0].title
        return join(
            [
                banner(
                    worst,
                    SIGNS[worst],
                    title,
                    text,
                ),
                _advice(active),
            ]
        )
    remarks = _count(counts[INFO], "remark")
    text = f"No rule of the examination found a fault. {remarks}".strip()
    return join(
        [
            banner(
                "healthy",
                HEALTHY,
                "Healthy",
                text,
            ),
            _advice(active),
        ]
    )


def _count(number: int, noun: str) -> str:
    if not number:
        return ""
    return f"{number} {noun}{'s' if number > 1 else ''}"


def banner(
    kind: str,
    sign: str,
    title: str,
    text: str,
) -> Markup:
    """Return the banner of a verdict.

    Args:
        kind: Of the verdict, which has a color.
        sign: A sign that differs without color.
        title: The verdict.
        text: One sentence about it.
    """
    mark = element(
        "span",
        sign,
        class_="sign",
        aria_hidden="true",
    )
    heading = element(
        "p",
        mark,
        " ",
        element("strong", title),
    )
    return element(
        "div",
        heading,
        element("p", text),
        class_=f"banner {kind}",
        role="status",
    )


def _advice(findings: Sequence[Finding]) -> Markup:
    """Return the first advice of each finding, the most severe first."""
    # Remarks are often explained by the errors.
    severe = [finding for finding in findings if finding.severity != INFO]
    steps: dict[str, list[Markup]] = {}
    for index, finding in enumerate(severe or findings):
        if finding.advice:
            name = f"{finding.id} {finding.name}"
            link = element("a", name, href=f"#finding-{index}")
            steps.setdefault(finding.advice[0], []).append(link)
    lines = [
        join([advice, " (", join(links[:3], ", "), ")"])
        for advice, links in list(steps.items())[:MAX_STEPS]
    ]
    return next_steps(lines)


def next_steps(lines: Sequence[object]) -> Markup:
    """Return the list of the next steps, or nothing for none."""
    if not lines:
        return Markup()
    heading = element("h2", "Next steps")
    return element(
        "div",
        heading,
        items(lines, "ol"),
        class_="next",
    )


def finding_cards(
    findings: Findings,
    curves: Curves | None,
    history: Mapping[str, Series],
    columns: Columns,
) -> Markup:
    """Return a card for each finding; refuted ones are last.

    Args:
        findings: Of the examination.
        curves: Of the run, or None.
        history: Sampled figures.
        columns: Names of the layers of figures.
    """
    active = [finding for finding in findings if finding.certainty != REFUTED]
    refuted = [finding for finding in findings if finding.certainty == REFUTED]
    cards = []
    for index, finding in enumerate([*active, *refuted]):
        figure = Markup()
        if index < MAX_FIGURES:
            figure = _figure(
                index,
                finding,
                curves,
                history,
                columns,
            )
        cards.append(_card(index, finding, figure))
    return section("findings", "Findings", *cards)


def _card(index: int, finding: Finding, figure: Markup) -> Markup:
    mark = element(
        "span",
        SIGNS[finding.severity],
        class_="sign",
        aria_hidden="true",
    )
    name = f" {finding.severity} {finding.id} {finding.name}"
    labels = [
        element(
            "span",
            mark,
            name,
            class_="label",
        )
    ]
    if finding.certainty != LIKELY:
        labels.append(element("span", finding.certainty, class_="label"))
    places: list[str] = []
    if finding.layer is not None:
        places.append(join(["layer ", element("code", finding.layer)]))
    if finding.steps is not None:
        first, last = finding.steps
        places.append(f"step {first}" if first == last else f"steps {first} to {last}")
    rows = [(name, show(_number(value))) for name, value in finding.measured.items()]
    head = [
        element("p", *labels),
        element("h3", finding.title),
        element("p", join(places, ", "), class_="place") if places else "",
    ]
    facts = [
        table(("measured", "value"), rows) if rows else "",
        _labeled("Threshold", finding.threshold),
        _labeled("Source", finding.source),
        figure,
    ]
    remedies = [
        _listed("Advice", finding.advice),
        _listed("Possible causes, the most likely first", finding.causes),
        _labeled("Confirming experiment", finding.confirm),
        _labeled("Experiment that was run", finding.experiment),
    ]
    body = element(
        "div",
        element("div", *facts),
        element("div", *remedies),
        class_="body",
    )
    kind = f"card {finding.severity} {finding.certainty}"
    return element(
        "article",
        *head,
        body,
        class_=kind,
        id=f"finding-{index}",
    )


def _number(value: object) -> object:
    """Return a number of any kind as one of Python; other values as text."""
    array = np.asarray(value)
    if array.ndim == 0 and array.dtype.kind in "biuf":
        return array.item()
    return str(value)


def _labeled(label: str, text: str) -> object:
    return element("p", element("strong", f"{label}: "), text) if text else ""


def _listed(label: str, values: Sequence[str]) -> object:
    if not values:
        return ""
    # The advice of a finding may repeat that of its rule.
    once = dict.fromkeys(values)
    return element("div", element("h4", label), items(once, "ol"))


def _figure(
    index: int,
    finding: Finding,
    curves: Curves | None,
    history: Mapping[str, Series],
    columns: Columns,
) -> Markup:
    """Return the figure that shows the finding, with its steps shaded; nothing if there is none."""
    if curves is None:
        return Markup()
    name = EVIDENCE.get(finding.id, LOSS)
    column = _column(finding.layer, columns.get(name, ()))
    has_series = column is not None and name in history
    if finding.steps is None and not has_series:
        return Markup()
    figure, axes = create_panel(height=2.4)
    if column is None or not has_series:
        draw_panel(axes, curves, LOSS)
        title = LOSS
    else:
        _draw_series(
            axes,
            history[name],
            column,
            name,
        )
        title = f"{name} of {columns[name][column]}"
    axes.set_title("")
    if finding.steps is not None:
        first, last = finding.steps
        shade(axes, finding.steps, curves.lanes[LOSS].shape[1])
        title += f"; shaded: steps {first} to {last}"
    return figure_markup(f"f{index}", figure, title)


def _column(layer: str | None, names: Sequence[str]) -> int | None:
    """Return the column of a layer, or of the first parameter of it."""
    for index, name in enumerate(names):
        if layer is not None and (name == layer or name.startswith(f"{layer}/")):
            return index
    return None


def _draw_series(axes: "Axes", series: Series, column: int, name: str) -> None:
    chosen = evenly_spaced(len(series.steps), MAX_POINTS)
    steps = series.steps[chosen]
    values = series.values[chosen, column].astype(float)
    axes.set_ylabel(name)
    set_scale(axes, values)
    style = "-" if len(values) > 1 else "o"
    axes.plot(
        steps,
        values,
        style,
        color=PALETTE[0],
    )
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)


def shade(axes: "Axes", steps: tuple[int, int], count: int) -> None:
    """Shade a range of steps, by color and by lines that are visible without it."""
    # Steps are counted from 0, and drawn from 1 on.
    first, last = steps[0] + 1, steps[1] + 1
    missing = max(0.0, MIN_SHARE * count - (last - first)) / 2
    low, high = first - 0.5 - missing, last + 0.5 + missing
    axes.axvspan(
        low,
        high,
        color=SHADE,
        alpha=0.3,
        zorder=0,
        linewidth=0,
    )
    for edge in (low, high):
        axes.axvline(
            edge,
            color="0.3",
            linewidth=0.8,
            linestyle=":",
        )
