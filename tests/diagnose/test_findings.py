"""Findings: order, selection and text."""

import importlib
import json
import pkgutil
from pathlib import Path

import pytest

from fnn import diagnose
from fnn.diagnose.experiments import EXPERIMENTS, OTHERS
from fnn.diagnose.findings import CONFIRMED, ERROR, INFO, WARNING, Rule
from fnn.errors import ConfigError

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


def rules():
    """All rules of the room, by id and name."""
    found = {}
    for module in pkgutil.iter_modules(diagnose.__path__):
        members = vars(importlib.import_module(f"fnn.diagnose.{module.name}")).values()
        for value in members:
            if isinstance(value, Rule):
                found[value.id, value.name] = value
    order = sorted(found, key=lambda name: ("PTE".index(name[0][0]), name))
    return [found[name] for name in order]


def row(rule):
    """The line of a rule in the table of docs/diagnosis.md."""
    first = [texts[0] if texts else "" for texts in (rule.causes, rule.advice)]
    is_run = rule.id in EXPERIMENTS and rule.name not in OTHERS
    experiment = f"**confirm**: {rule.confirm}" if is_run else rule.confirm
    return f"| {rule.id} | {rule.name} | {first[0]} | {first[1]} | {experiment} |"


def test_the_page_of_diagnosis_lists_all_rules():
    page = Path(__file__).parents[2] / "docs" / "diagnosis.md"
    listed = [line for line in page.read_text().splitlines() if line[:3] in ("| P", "| T", "| E")]
    # After a change of a rule, replace the lines of the table by these.
    assert listed == [row(rule) for rule in rules()]


def test_every_experiment_is_of_a_rule():
    known = rules()
    assert EXPERIMENTS.keys() <= {rule.id for rule in known}
    assert {rule.name for rule in known} >= OTHERS


def test_severities_and_certainties_are_known_ones():
    findings = diagnose.Findings([finding(ERROR)])
    with pytest.raises(ConfigError, match="of_severity severity: expected one of error"):
        findings.of_severity("errors")
    with pytest.raises(ConfigError, match="with_certainty certainty"):
        findings.with_certainty("T06", "sure")
