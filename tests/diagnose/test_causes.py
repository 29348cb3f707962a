"""The order of findings by cause."""

from fnn.diagnose.causes import EXPLAINS, ORDER, rank
from fnn.diagnose.findings import ERROR, INFO, WARNING, Finding


def finding(id, severity=WARNING, **measured):
    return Finding(id, id.lower(), severity, f"title of {id}", measured=measured)


def ids(*findings):
    return [(one.id, one.severity) for one in rank(findings)]


def test_a_cause_precedes_its_symptoms_and_gets_their_severity():
    found = ids(finding("T13", ERROR), finding("E10", ERROR), finding("P02", WARNING))
    assert found == [("P02", ERROR), ("T13", INFO), ("E10", INFO)]


def test_a_symptom_names_its_cause():
    (_, symptom) = rank([finding("T13", ERROR), finding("T05", ERROR)])
    assert "explained by T05" in symptom.title


def test_findings_without_a_relation_keep_their_severity():
    assert ids(finding("E01"), finding("P15")) == [("P15", WARNING), ("E01", WARNING)]


def test_information_explains_nothing():
    assert ids(finding("T13", ERROR), finding("P02", INFO)) == [("T13", ERROR), ("P02", INFO)]


def test_units_that_died_are_a_symptom_of_the_rate_and_others_are_not():
    died = {"dead share": 0.9, "dead share at start": 0.1}
    assert ids(finding("T06", ERROR, **died), finding("T04", ERROR))[0][0] == "T04"
    always = {"dead share": 0.9, "dead share at start": 0.9}
    assert ids(finding("T06", ERROR, **always), finding("T04", ERROR))[0][0] == "T06"
    profile = finding("P11", ERROR, dead_share=0.9)
    assert ids(profile, finding("T06", ERROR, **always))[0][0] == "T06"


def test_inputs_that_a_short_run_ignores_are_a_symptom_of_the_initialization():
    short_run = finding("P14", WARNING, zeroed=2.3)
    assert ids(short_run, finding("P11", ERROR)) == [("P11", ERROR), ("P14", INFO)]
    no_predictor = finding("P14", ERROR)
    assert ids(no_predictor, finding("P11", WARNING)) == [("P14", ERROR), ("P11", WARNING)]


def test_updates_overshoot_where_no_predictor_beats_a_constant():
    rate = finding("T04", ERROR)
    assert ids(rate, finding("P14", ERROR)) == [("P14", ERROR), ("T04", INFO)]
    assert ids(rate, finding("P14", ERROR, zeroed=2.3)) == [("P14", ERROR), ("T04", ERROR)]


def test_a_rule_is_listed_once_for_each_layer():
    assert len(rank([finding("P06"), finding("P06")])) == 1


def test_all_rules_of_the_relation_are_in_the_order_of_causes():
    assert len(set(ORDER)) == len(ORDER)
    assert EXPLAINS.keys() <= set(ORDER)
    assert set().union(*EXPLAINS.values()) <= set(ORDER)


def test_a_layer_that_fails_explains_numbers_that_are_not_finite():
    place = {"title": "", "severity": ERROR}
    data = Finding("P01", "nonfinite_data", **place)
    found = rank([data, Finding("T01", "nonfinite", layer="log_1", **place)])
    assert found[0].id == "T01"
    assert found[1].severity == INFO
    found = rank([data, Finding("T01", "nonfinite", layer="inputs", **place)])
    assert found[0].id == "P01"
