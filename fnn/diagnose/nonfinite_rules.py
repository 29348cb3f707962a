"""Rules of numbers that are not finite: in a run, in its first steps, and before training."""

from collections.abc import Iterator, Mapping, Sequence

from fnn.diagnose.activation_rules import LayerFacts
from fnn.diagnose.evidence import Evidence
from fnn.diagnose.findings import ERROR, WARNING, Finding, Rule
from fnn.diagnose.localize import BACKWARD, FORWARD, INPUTS, Location
from fnn.diagnose.structure_rules import Leaf
from fnn.diagnose.thresholds import Thresholds

NONFINITE = Rule(
    "T01",
    "nonfinite",
    "replay of the step, layer by layer",
    ("log, sqrt or a division at 0", "the learning rate is too high", "numbers overflow"),
    ("guard log, sqrt and divisions", "lower the rate", "clip gradients"),
    "replay the step with diagnose.localize",
)


def nonfinite(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T01: the first non-finite number, with its layer and direction."""
    if evidence.location is None:
        return []
    # A step that was skipped has not ended the run.
    severity = ERROR if evidence.is_cut else WARNING
    return [location_finding(evidence.location, severity)]


def location_finding(place: Location, severity: str) -> Finding:
    """Return the finding of a step that is not finite.

    Args:
        place: Where its first non-finite number arises.
        severity: "error" or "warning".
    """
    measured = {"direction": place.direction, "largest before": place.largest}
    if place.copy is not None:
        measured["copy"] = place.copy
    verb = "in the gradient of" if place.direction == BACKWARD else "in"
    title = f"step {place.step} is not finite, first {verb} {place.layer}"
    advice: tuple[str, ...] = ()
    if place.layer == INPUTS:
        advice = ("remove examples that are not finite",)
    return NONFINITE.finding(
        severity,
        title,
        measured,
        "any",
        layer=place.layer,
        steps=(place.step, place.step),
        advice=advice,
    )


def nonfinite_findings(
    sequence: Sequence[Leaf],
    facts: Mapping[str, LayerFacts],
) -> Iterator[Finding]:
    """Find the first layer whose untrained outputs are not finite.

    Args:
        sequence: The layers of a network in order.
        facts: Statistics by path.
    """
    for leaf in sequence:
        if leaf.path in facts and not facts[leaf.path].finite:
            title = f"the untrained output of {leaf.path} is not finite"
            yield NONFINITE.finding(
                ERROR,
                title,
                {"direction": FORWARD, "kind": leaf.kind},
                "any",
                layer=leaf.path,
            )
            # All later layers have the same fault.
            return
