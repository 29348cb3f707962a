"""Two runs side by side."""

from dataclasses import replace

import numpy as np
from reports import FINDINGS, HOSTILE, Page

from fnn import lab
from fnn.lab.report.comparison import comparison_section, moving_average
from fnn.lab.report.content import Series

THIS = lab.Report(
    findings=FINDINGS,
    figures={"valid": {"loss": 0.5}},
    history={"loss": Series(np.arange(1, 41), np.linspace(2, 1, 40))},
    columns={},
    steps=40,
    recipe="recipe(dense(3), adam(0.1))",
    key="jax.random.key(0)",
    versions={},
)
OTHER = replace(
    THIS,
    findings=None,
    figures={"valid": {"loss": 0.75}},
    recipe=f"recipe(dense(3), sgd(0.2, {HOSTILE!r}))",
    steps=30,
)


def test_figures_findings_and_recipes_are_side_by_side():
    page = Page(comparison_section(THIS, OTHER, HOSTILE))
    assert "valid: loss0.50.75-0.25" in page.text and "steps403010" in page.text
    assert "T06 dead_unitserror" in page.text
    marked = [tag for tag, _ in page.elements].count("mark")
    assert marked >= 3 and "script" not in page.tags
    assert "loss of both runs." in page.text


def test_equal_recipes_are_said_so():
    page = Page(comparison_section(THIS, THIS, "other"))
    assert "Both runs have the same recipe." in page.text and "mark" not in page.tags


def test_the_average_leaves_out_values_that_are_not_finite():
    values = np.ones(40)
    values[[3, 4]] = np.nan, np.inf
    values[10] = 3
    found = moving_average(Series(np.arange(1, 41), values))
    assert found.steps.tolist() == list(range(2, 41))
    assert np.isnan(found.values[3]) and found.values[2] == 1 and found.values[9] == 2
