"""The section of curvature: the measured values of T17 and T18 next to their limits."""

import numpy as np
import pytest
from reports import FINDINGS, Page

from fnn.diagnose import Findings, Thresholds
from fnn.diagnose.curvature_rules import noise_findings, sharpness_findings
from fnn.lab.report.curvature_section import curvature_section
from fnn.lab.report.svg import report_style

SHARP = sharpness_findings(80.0, 20.0, 0.1)
NOISY = noise_findings(3200.0, 32, Thresholds())


def section(findings):
    with report_style():
        return curvature_section(findings)


def test_each_rule_has_a_panel_with_value_limit_and_ratio():
    page = Page(section(Findings([*SHARP, *NOISY])))
    assert page.sections == ["curvature"]
    assert [tag for tag, _ in page.elements].count("figure") == 2
    for text in ("sharpness 80", "limit 20", "ratio is 4.", "noise scale 3.2e+03", "ratio is 100."):
        assert text in page.text


def test_the_axes_say_that_they_are_logarithmic():
    assert section(Findings([*SHARP, *NOISY])).count("(log scale)") == 2


def test_one_rule_alone_has_one_panel():
    page = Page(section(Findings(NOISY)))
    assert [tag for tag, _ in page.elements].count("figure") == 1


@pytest.mark.parametrize("findings", [None, Findings(), FINDINGS])
def test_without_these_rules_there_is_no_section(findings):
    assert section(findings) is None


def test_an_infinite_noise_scale_is_a_text():
    infinite = noise_findings(float(np.inf), 32, Thresholds())
    assert "noise scale inf" in Page(section(Findings(infinite))).text
