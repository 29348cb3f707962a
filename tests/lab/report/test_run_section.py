"""The section of a run: events, and the panels of its figures."""

import numpy as np
from reports import Page

from fnn.lab.plots.curves import read_curves
from fnn.lab.report.run_section import events, run_section

HISTORY = {
    "loss": np.array([3.0, 2, np.nan, 1, 1, 1, 1, 1]),
    "accuracy": np.linspace(0, 1, 8),
    "rate": np.array([1.0, 1, 1, 1, 0.1, 0.1, 0.1, 0.1]),
    "valid_loss": np.array([2.0, 1, 1.5, 2]),
}


def test_events_are_the_best_epoch_drops_and_steps_that_are_not_finite():
    assert events(read_curves("test", HISTORY)) == [
        ("best epoch", 4, "epoch 2, lowest valid_loss"),
        ("rate dropped", 5, "from 1 to 0.1"),
        ("loss not finite", 3, "1 of 8 steps"),
        ("end of the run", 8, ""),
    ]


def test_each_figure_has_a_panel_and_validation_a_gap():
    figures = {"training": {"loss": 1.0}, "valid": {"loss": 2.0, "accuracy": 0.5}}
    page = Page(run_section(read_curves("test", HISTORY), figures))
    assert [tag for tag, _ in page.elements].count("figure") == 4
    assert "At the end valid_loss is 100.0% above its lowest." in page.text
    assert "(log scale)" in page.text or "loss" in page.text
    alone = {"loss": HISTORY["loss"]}
    assert "gap" not in Page(run_section(read_curves("test", alone), figures)).text
