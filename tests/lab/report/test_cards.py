"""Verdict, next steps and cards of findings."""

from dataclasses import replace

import numpy as np
from reports import DEAD, FINDINGS, HOSTILE, PLAIN, Page

from fnn.diagnose import Findings
from fnn.lab.plots.curves import read_curves
from fnn.lab.report.cards import finding_cards, shade, verdict
from fnn.lab.report.content import Series
from fnn.lab.report.svg import create_panel

CURVES = read_curves("test", {"loss": np.linspace(2, 1, 12)})


def test_the_verdict_counts_errors_and_warnings_in_words():
    assert Page(verdict(FINDINGS)).text.startswith("✖ 1 error and 1 warning62 % of the units")
    assert Page(verdict(FINDINGS.warnings)).text.startswith("▲ 1 warning4 of 5 are cats")
    assert Page(verdict(Findings())).text.startswith("✔ Healthy")
    assert Page(verdict(None)).text.startswith("○ Not examined")
    remark = Findings([PLAIN.finding("info", "odd", {}, "")])
    assert "Healthy" in verdict(remark) and "1 remark" in verdict(remark)


def test_refuted_findings_do_not_count():
    refuted = FINDINGS.with_certainty("T06", "refuted")
    assert Page(verdict(refuted)).text.startswith("▲ 1 warning")
    cards = Page(finding_cards(refuted, CURVES, {}, {})).text
    assert cards.index("class_imbalance") < cards.index("dead_units") < cards.index("refuted")


def test_next_steps_are_the_first_advice_of_each_finding_once():
    twice = FINDINGS + Findings([DEAD.finding("error", "again", {}, "")])
    page = Page(verdict(twice))
    assert page.text.count("divide the rate by 3") == 1
    assert "use leaky_relu" not in page.text
    assert page.attributes("href") == ["#finding-0", "#finding-1", "#finding-2"]
    remark = PLAIN.finding("info", "odd", {}, "", advice=["ignore it"])
    assert "ignore it" in verdict(Findings([remark]))
    assert "ignore it" not in verdict(FINDINGS + Findings([remark]))


def test_a_card_has_value_threshold_source_advice_and_experiment():
    page = Page(finding_cards(FINDINGS, CURVES, {}, {}))
    for text in (
        f"62 % of the units of {HOSTILE} are dead", "layer layer 1, steps 3 to 6", "dead_share0.62",
        "worstinf", "Threshold: > 50 %", "Source: TheDeepChecker", "use leaky_relu",
        "the rate was too high", "Confirming experiment: the same run", "ratio0.1",
    ):  # fmt: skip
        assert text in page.text, text
    assert [ident for ident in page.attributes("id") if "-" not in ident] == ["findings"]
    assert "script" not in page.tags


def test_the_figure_of_a_card_is_that_of_its_layer_if_it_was_measured():
    series = Series(np.arange(1, 13), np.ones((12, 2)))
    columns = {"dead_share": ("layer 0", "layer 1")}
    with_figure = Page(finding_cards(FINDINGS, CURVES, {"dead_share": series}, columns)).text
    assert "dead_share of layer 1; shaded: steps 3 to 6" in with_figure
    assert "loss; shaded: steps 3 to 6" in Page(finding_cards(FINDINGS, CURVES, {}, {})).text
    timeless = Findings([replace(FINDINGS[0], steps=None)])
    page = Page(finding_cards(timeless, CURVES, {"dead_share": series}, columns))
    assert "figure" in page.tags and "shaded" not in page.text
    assert "figure" not in Page(finding_cards(timeless, CURVES, {}, {})).tags


def test_shading_covers_the_steps_and_stays_visible():
    for steps, ends in (((3, 6), (3.5, 7.5)), ((5000, 5000), (4951.5, 5050.5))):
        _, axes = create_panel()
        shade(axes, steps, 10_001)
        (patch,) = axes.patches
        low, high = patch.get_x(), patch.get_x() + patch.get_width()
        assert low <= ends[0] and high >= ends[1]
        assert len(axes.lines) == 2
