"""The section of curvature: sharpness against the rate, gradient noise against the batch."""

from typing import NamedTuple

import numpy as np

from fnn.diagnose import Findings
from fnn.lab.plots.axis import set_log_x
from fnn.lab.plots.figure import PALETTE
from fnn.lab.report.markup import Markup, grid, notice, section
from fnn.lab.report.svg import create_panel, figure_markup

HEIGHT = 1.9  # inches
MARGIN = 3.0  # factor between the values and the ends of the axis


class Scale(NamedTuple):
    """A measured value and the one that it is compared with.

    Attributes:
        id: Of the rule.
        value: Name of the measured value.
        limit: Name of the other one.
        label: Of the axis.
        caption: Meaning of the panel.
    """

    id: str
    value: str
    limit: str
    label: str
    caption: str


SCALES = (
    Scale(
        "T17",
        "sharpness",
        "limit",
        "largest eigenvalue of the Hessian",
        "Above the limit, steps of this rate overshoot along the steepest direction.",
    ),
    Scale(
        "T18",
        "noise scale",
        "batch size",
        "examples",
        "At the noise scale, a batch has as much noise as signal in its gradient.",
    ),
)


def curvature_section(findings: Findings | None) -> Markup | None:
    """Return the section, or None without a finding of `diagnose.examine_curvature`.

    Args:
        findings: Of the run, of which T17 and T18 are shown.
    """
    panels = []
    for scale in SCALES:
        for finding in findings or ():
            if finding.id == scale.id and {scale.value, scale.limit} <= finding.measured.keys():
                values = [float(finding.measured[name]) for name in (scale.value, scale.limit)]
                panels.append(_panel(scale, *values))
    if not panels:
        return None
    text = "Measured at one train state by diagnose.examine_curvature."
    return section(
        "curvature",
        "Curvature",
        notice(text),
        grid(panels),
    )


def _panel(scale: Scale, value: float, limit: float) -> Markup:
    """Return the panel of a value and its limit on a logarithmic axis."""
    figure, axes = create_panel(HEIGHT)
    rows = {scale.value: value, scale.limit: limit}
    drawn = [one for one in rows.values() if np.isfinite(one) and one > 0]
    for row, (name, one) in enumerate(rows.items()):
        if one in drawn:
            axes.plot(
                [one],
                [row],
                "os"[row],
                color=PALETTE[row],
                markersize=9,
                label=name,
            )
    axes.set_xlabel(scale.label)
    if drawn:
        axes.set_xlim(min(drawn) / MARGIN, max(drawn) * MARGIN)
        set_log_x(axes)
    labels = [f"{name} {one:.3g}" for name, one in rows.items()]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(alpha=0.3)
    ratio = f" The ratio is {value / limit:.3g}." if limit > 0 else ""
    name = scale.value.replace(" ", "-")
    return figure_markup(name, figure, f"{scale.caption}{ratio}")
