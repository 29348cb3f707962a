"""Order of findings: causes first; a symptom that a cause explains is information only."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from fnn.diagnose.findings import INFO, SEVERITIES, Finding, Findings
from fnn.diagnose.localize import INPUTS

HALF = 0.5  # share of saturated units
# Rules that share an identifier with a symptom.
LOSS_SIGN, FLIPPED_SIGN, SMALL_BATCHES = "loss_sign", "flipped_sign", "small_batches"
CAUSE_NAMES = (LOSS_SIGN, FLIPPED_SIGN, SMALL_BATCHES)

# Rules in the order of causation. A finding explains only those of later rules.
DATA = ("P01", "P02", "P18", "P14", "P15", "P03", "E07")
CODE = (LOSS_SIGN, FLIPPED_SIGN, "P06", "P08", "P05", "P12", "P07", "P09")
START = ("P10", "P16", "P17", SMALL_BATCHES, "P11", "T07", "P04", "T15")
TRAINING = (
    "T02",
    "T03",
    "T04",
    "T01",
    "T06",
    "P19",
    "T12",
    "T05",
    "T16",
    "T14",
    "T09",
    "T08",
    "T19",
)
RESULT = ("P13", "T13", "E03", "E02", "T11", "T10", "E06", "E01", "E09", "E10", "E04", "E05")
LAST = ("E08", "P20", "T17", "T18", "T20")
ORDER = (*DATA, *CODE, *START, *TRAINING, *RESULT, *LAST)

FAILURE = frozenset({"P13", "T13", "E02", "E09", "E10", "E03", "E08", "T05", "T10", "T19"})
INSTABILITY = frozenset({"T01", "T04", "T06", "T08", "T09", "T14", "E05", "T16"})
SCALE = frozenset({"P04", "P11", "T02", "T03", "T07", "T11"})

# Symptoms of each rule, besides those of the rules that it explains.
EXPLAINS: dict[str, frozenset[str]] = {
    "P01": frozenset(ORDER),
    "P02": FAILURE | INSTABILITY | SCALE | {"E01", "P14", "T15"},
    "P03": frozenset({"E09", "E10", "E08", "P13"}),
    "P14": FAILURE | {"E01", "E04", "T08", "E05", "E07", "P15"},
    "P15": frozenset({"E06"}),
    "P18": FAILURE | {"E01", "E05", "E06", "T16"},
    "E07": frozenset({"E01", "E04", "E06", "E05", "E08", "E02", "E10", "T04", "T08", "T05", "E03"}),
    "P06": FAILURE | INSTABILITY | {"P04", "E01", "T07"},
    LOSS_SIGN: FAILURE | INSTABILITY | SCALE | {FLIPPED_SIGN, "E01", "P05"},
    FLIPPED_SIGN: FAILURE | INSTABILITY | SCALE | {"E01"},
    "P08": FAILURE | INSTABILITY | {"P04", "E01"},
    "P05": FAILURE | INSTABILITY | {"P04"},
    "P12": FAILURE | INSTABILITY | {"P04"},
    "P07": frozenset({"E02", "E10"}),
    "P09": FAILURE | {"T02", "T03"},
    "P10": FAILURE | INSTABILITY | SCALE,
    SMALL_BATCHES: FAILURE | INSTABILITY | SCALE,
    "P16": FAILURE | {"T16", "E05"},
    "P17": FAILURE | INSTABILITY,
    "P11": FAILURE | INSTABILITY | SCALE | {"E01"},
    "P04": frozenset({"T11", "T09", "T04"}),
    "T02": FAILURE | INSTABILITY | {"T11"},
    "T03": FAILURE | {"T06"},
    "T07": FAILURE | {"T03", "T04", "T08"},
    "T15": FAILURE | {"T03", "T06"},
    "T04": FAILURE | INSTABILITY | {"T11"},
    "T06": FAILURE | {"T03"},
    "T01": FAILURE | {"T06", "T08", "T09", "T14", "T16", "T12", "T11"},
    "P19": frozenset({"T12", "T05", "E03"}),
    "T12": frozenset({"T05", "E02", "E03", "E10"}),
    "T05": FAILURE,
    "T16": frozenset({"E01", "E02", "E05", "E08", "E09", "E10", "T13"}),
    "T14": FAILURE | {"T09", "T08"},
    "T09": frozenset({"E05", "T08"}),
    "T08": frozenset({"E05", "E03"}),
    "T13": FAILURE,
    "E03": frozenset({"E02", "E08", "E09", "E10"}),
    "E01": frozenset({"E04", "E05", "E08", "E10"}),
    "E02": frozenset({"E10", "E09", "E08"}),
    "E09": frozenset({"E10", "E08"}),
}


def rank(findings: Iterable[Finding]) -> Findings:
    """Sort findings by severity and by the order of causes, and demote explained symptoms.

    A symptom of an error or a warning becomes information, and names its cause. The cause gets the
    severity of the worst of its symptoms. Of the findings of one rule and layer, the most severe
    is kept.

    Args:
        findings: In any order.
    """
    ordered = sorted(_distinct(findings), key=_place)
    count = len(ordered)
    explained: list[int | None] = [None] * count
    pairs = [(cause, symptom) for cause in range(count) for symptom in range(count)]
    # Relations against the order come first.
    for cause, symptom in pairs:
        if explained[symptom] is None and _overrides(ordered[cause], ordered[symptom]):
            explained[symptom] = cause
    for cause in range(count):
        # Information explains nothing; a symptom does not either, as its cause comes first.
        if ordered[cause].severity == INFO or explained[cause] is not None:
            continue
        for symptom in range(count):
            if explained[symptom] is None and _explains(ordered[cause], ordered[symptom]):
                explained[symptom] = cause
    ranked = []
    for index, finding in enumerate(ordered):
        cause_index = explained[index]
        if cause_index is not None:
            ranked.append(_demoted(finding, ordered[cause_index]))
            continue
        own = [other for other in range(count) if explained[other] == index]
        worst = min(
            [finding.severity, *(ordered[other].severity for other in own)], key=SEVERITIES.index
        )
        ranked.append(replace(finding, severity=worst))
    return Findings(ranked)


def _distinct(findings: Iterable[Finding]) -> list[Finding]:
    kept: dict[tuple[str, str | None], Finding] = {}
    for finding in findings:
        # Numbers of Python, which are JSON.
        plain = {name: np.asarray(value).tolist() for name, value in finding.measured.items()}
        finding = replace(finding, measured=plain)
        key = finding.id + finding.name, finding.layer
        other = kept.get(key, finding)
        # Of several findings of one rule, the most severe is kept.
        kept[key] = min(other, finding, key=lambda one: SEVERITIES.index(one.severity))
    return list(kept.values())


def _rule(finding: Finding) -> str:
    return finding.name if finding.name in CAUSE_NAMES else finding.id


def _place(finding: Finding) -> int:
    # Rules of other libraries come last.
    rule = _rule(finding)
    return ORDER.index(rule) if rule in ORDER else len(ORDER)


def _explains(
    cause: Finding,
    symptom: Finding,
) -> bool:
    """Return whether a finding is the cause of a later one."""
    if _rule(cause) == _rule(symptom) or _overrides(symptom, cause):
        return False
    # Units that are dead from the start on are no effect of training.
    is_initial = symptom.id == "T06" and _is_dead_at_start(symptom)
    if is_initial and _rule(cause) not in (*DATA, *START, "T01"):
        return False
    is_later = _place(symptom) > _place(cause)
    return is_later and _rule(symptom) in EXPLAINS.get(_rule(cause), frozenset())


def _overrides(
    cause: Finding,
    symptom: Finding,
) -> bool:
    """Return whether a finding is the cause of one that is a cause as a rule."""
    if (cause.id, symptom.name) == ("T01", "nonfinite_data"):
        return cause.layer is not None and cause.layer != INPUTS
    # Short runs with this initialization cannot use the inputs either.
    is_short_run = symptom.id == "P14" and "zeroed" in symptom.measured
    if is_short_run and cause.id in ("P10", "P11"):
        return cause.severity != INFO
    # Where no predictor beats a constant, every update overshoots, and constant inputs have no
    # variance.
    if cause.id == "P14" and "zeroed" not in cause.measured:
        return cause.severity != INFO and symptom.id in ("T04", "T06", "T16")
    if cause.id == "T06" and _is_dead_at_start(cause):
        # The profile before training counts the same units.
        is_profile = symptom.id == "P11" and "dead_share" in symptom.measured
        return is_profile or symptom.id in ("T03", "T04", "P09")
    if cause.id == "E10":
        # Below a constant on validation alone: the labels of the two sets differ.
        return symptom.id in ("E01", "E04", "E08") and bool(cause.measured.get("contradicts"))
    # Deep sigmoids saturate in training because their gradient vanishes.
    if (cause.id, symptom.id) == ("T03", "T07"):
        return bool(symptom.measured.get("at start", 1.0) < HALF)
    return False


def _is_dead_at_start(finding: Finding) -> bool:
    share = finding.measured.get("dead share at start", 0.0)
    return bool(share > finding.measured.get("dead share", 1.0) / 2)


def _demoted(
    finding: Finding,
    cause: Finding,
) -> Finding:
    title = f"{finding.title} (explained by {cause.id} {cause.name})"
    return replace(finding, severity=INFO, title=title)
