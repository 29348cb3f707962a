"""The section of a run: its figures, events and learning curves."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from fnn.lab.plots.curves import Curves, draw_panel, find_drops
from fnn.lab.plots.figure import PALETTE
from fnn.lab.report.markup import Markup, grid, notice, section, table
from fnn.lab.report.svg import create_panel, figure_markup
from fnn.train.figures import LOSS, RATE, VALID_LOSS

MAX_PANELS = 9
MAX_EVENTS = 12
TITLES = {
    "training": "training, last steps",
    "valid": "validation, last epoch",
    "before training": "before training, evaluation mode",
    "training, evaluation mode": "training, evaluation mode",
    "valid, evaluation mode": "validation, evaluation mode",
}
CAPTIONS = {
    LOSS: "Loss: steps, their moving average with a band, and validation.",
    RATE: "Learning rate; steps at which it dropped are marked.",
}


def run_section(curves: Curves, figures: Mapping[str, Mapping[str, float]]) -> Markup:
    """Return the section of a run.

    Args:
        curves: Of the run.
        figures: Final figures by set and name.
    """
    names = curves.names[:MAX_PANELS]
    panels: list[Markup] = []
    for name in names:
        figure, axes = create_panel()
        draw_panel(axes, curves, name)
        caption = CAPTIONS.get(name, f"{name}: steps, their moving average, and validation.")
        panels.append(figure_markup(f"run-{len(panels)}", figure, caption))
    if np.isfinite(curves.lanes.get(VALID_LOSS, np.nan)).any():
        panels.append(_gap(curves))
    omitted = len(curves.names) - len(names)
    note = notice(f"{omitted} more figures are not drawn.") if omitted else Markup()
    return section(
        "run",
        "Training",
        _figures_table(figures),
        grid(panels),
        note,
        table(("event", "step", "detail"), events(curves)),
    )


def _figures_table(figures: Mapping[str, Mapping[str, float]]) -> Markup:
    """Return the final figures, one row a set of examples."""
    names = dict.fromkeys(name for part in figures.values() for name in part)
    rows = [
        (TITLES.get(part, part), *(values.get(name, "") for name in names))
        for part, values in figures.items()
    ]
    return table(("final figures", *names), rows)


def events(curves: Curves) -> list[tuple[object, ...]]:
    """Return the events of a run: the best epoch, drops of the rate, steps that are not finite."""
    loss = curves.lanes[LOSS][0]
    rows: list[tuple[object, ...]] = []
    if curves.best is not None:
        reason, epoch = curves.best
        step = round((epoch + 1) * curves.epoch_steps)
        rows.append(("best epoch", step, f"epoch {epoch + 1}, {reason}"))
    rates = curves.lanes.get(RATE)
    drops = np.array([], int) if rates is None else find_drops(rates)
    for step in drops.tolist():
        assert rates is not None
        before, after = rates[0, step - 2 : step]
        detail = f"from {before:.4g} to {after:.4g}"
        rows.append(("rate dropped", step, detail))
    missing = np.flatnonzero(~np.isfinite(loss)) + 1
    if missing.size:
        rows.append(("loss not finite", int(missing[0]), f"{missing.size} of {loss.size} steps"))
    rows = rows[:MAX_EVENTS]
    rows.append(("end of the run", loss.size, ""))
    return rows


def _gap(curves: Curves) -> Markup:
    """Return the panel of the generalization loss and of the gap to training.

    The generalization loss is valid_loss over its least value so far, minus 1 [Prechelt 1998].
    """
    valid = curves.lanes[VALID_LOSS][0]
    loss = curves.lanes[LOSS][0]
    ends = np.arange(1, len(valid) + 1) * curves.epoch_steps
    # The mean of each epoch's steps.
    borders = np.append(0, np.round(ends)).astype(int)
    training = np.array([loss[low:high].mean() for low, high in pairwise(borders)])
    figure, axes = create_panel()
    style = "o-" if len(valid) < 30 else "-"
    gap = np.where(np.isfinite(valid), valid, np.nan) - training
    axes.plot(
        ends,
        gap,
        style,
        color=PALETTE[1],
        markersize=3,
    )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel("step")
    axes.set_ylabel("valid_loss - loss")
    axes.set_title("gap")
    axes.grid(alpha=0.3)
    caption = "Gap between validation and the mean of the epoch's steps."
    least = np.fmin.reduce(valid)
    if least > 0 and np.isfinite([least, valid[-1]]).all():
        rise = valid[-1] / least - 1
        caption += f" At the end valid_loss is {rise:.1%} above its lowest."
    return figure_markup("gap", figure, caption)
