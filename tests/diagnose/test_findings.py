"""Findings: order, selection and text."""

import json

from fnn import diagnose
from fnn.diagnose.findings import CONFIRMED, ERROR, INFO, WARNING, Rule

RULE = Rule("T06", "dead_units", "a paper", ("rate",), ("lower the rate",), "run at a tenth")


def finding(severity, advice=()):
    return RULE.finding(
        severity, "60 % dead", {"share": 0.6}, "share > 0.5", layer="relu_0", advice=advice
    )


def test_findings_are_sorted_by_severity_and_can_be_selected():
    findings = diagnose.Findings([finding(INFO), finding(ERROR), finding(WARNING)])
    assert [one.severity for one in findings] == [ERROR, WARNING, INFO]
    assert len(findings.errors) == len(findings.warnings) == 1
    assert findings[:1] == findings.errors
    assert findings.ids == ("T06",) * 3


def test_a_finding_is_one_line_with_its_first_advice():
    text = str(finding(ERROR, advice=["use leaky_relu"]))
    assert text == "error T06 dead_units: 60 % dead -> use leaky_relu"
    assert str(diagnose.Findings()) == "no findings"


def test_an_experiment_changes_the_certainty():
    findings = diagnose.Findings([finding(ERROR)]).with_certainty("T06", CONFIRMED)
    assert findings[0].certainty == CONFIRMED
    assert "(confirmed)" in str(findings)


def test_a_finding_is_json():
    values = json.loads(json.dumps(finding(ERROR).as_dict()))
    assert values["measured"] == {"share": 0.6}
    assert values["advice"] == ["lower the rate"]
