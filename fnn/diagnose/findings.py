"""Findings: named faults of a training run, each with its evidence and advice."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

from fnn import checks

ERROR, WARNING, INFO = "error", "warning", "info"
SEVERITIES = (ERROR, WARNING, INFO)  # the most severe first
# How sure a finding is. A confirming experiment turns "likely" into one of the others.
LIKELY, CONFIRMED, REFUTED = CERTAINTIES = ("likely", "confirmed", "refuted")


@dataclass(frozen=True)
class Finding:
    """A named fault of a training run.

    Attributes:
        id: Identifier of the rule, such as "T06".
        name: Name of the fault, such as "dead_units".
        severity: "error", "warning" or "info".
        title: The fault in one sentence, with the measured value.
        layer: Path of the layer or parameter; None if the fault has no place in the network.
        steps: First and last step at which it was observed; None if it has no time.
        measured: Measured values by name.
        threshold: The condition that the values met, as text.
        source: Publication or library that the threshold is from.
        causes: Possible causes, the most likely first.
        advice: Remedies, the most effective first.
        confirm: One cheap experiment that confirms or refutes the finding.
        certainty: "likely", or "confirmed" or "refuted" by that experiment.
        experiment: The experiment that was run and its numbers, as a sentence; empty if none was.
        outcome: Its numbers by name.
    """

    id: str
    name: str
    severity: str
    title: str
    layer: str | None = None
    steps: tuple[int, int] | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    threshold: str = ""
    source: str = ""
    causes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    confirm: str = ""
    certainty: str = LIKELY
    experiment: str = ""
    outcome: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Format as one line: severity, identifier, title, and the first advice."""
        certainty = "" if self.certainty == LIKELY else f" ({self.certainty})"
        advice = f" -> {self.advice[0]}" if self.advice else ""
        return f"{self.severity} {self.id} {self.name}{certainty}: {self.title}{advice}"

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes by name, as values of JSON."""
        values = dict(vars(self))
        values["measured"] = dict(self.measured)
        values["outcome"] = dict(self.outcome)
        for name in ("causes", "advice", "steps"):
            value = values[name]
            values[name] = None if value is None else list(value)
        return values


class Findings(Sequence[Finding]):
    """Findings of an examination, the most severe first.

    Args:
        findings: In any order. Those of equal severity keep their order.
    """

    def __init__(self, findings: Iterable[Finding] = ()):
        self._findings = tuple(sorted(findings, key=lambda one: SEVERITIES.index(one.severity)))

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> "Findings": ...
    def __getitem__(self, index: int | slice) -> "Finding | Findings":
        if isinstance(index, slice):
            return Findings(self._findings[index])
        return self._findings[index]

    def __len__(self) -> int:
        return len(self._findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._findings)

    def __add__(self, other: "Findings") -> "Findings":
        return Findings([*self, *other])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Findings) and self._findings == other._findings

    def __hash__(self) -> int:
        return hash(tuple(one.id for one in self))

    def __repr__(self) -> str:
        return f"Findings({list(self._findings)})"

    def __str__(self) -> str:
        """Format as one line per finding."""
        return "\n".join(map(str, self)) if self._findings else "no findings"

    @property
    def ids(self) -> tuple[str, ...]:
        """Identifiers of the findings, in order."""
        return tuple(one.id for one in self)

    @property
    def errors(self) -> "Findings":
        """Findings of severity "error"."""
        return self.of_severity(ERROR)

    @property
    def warnings(self) -> "Findings":
        """Findings of severity "warning"."""
        return self.of_severity(WARNING)

    def of_severity(self, severity: str) -> "Findings":
        """Return the findings of a severity.

        Args:
            severity: "error", "warning" or "info".

        Raises:
            ConfigError: The severity is none of these.
        """
        checks.choice("of_severity severity", severity, SEVERITIES)
        return Findings(one for one in self if one.severity == severity)

    def with_certainty(self, id: str, certainty: str) -> "Findings":
        """Return findings where those of a rule have another certainty.

        Args:
            id: Identifier of the rule.
            certainty: "likely", "confirmed" or "refuted".

        Raises:
            ConfigError: The certainty is none of these.
        """
        checks.choice("with_certainty certainty", certainty, CERTAINTIES)
        changed = (replace(one, certainty=certainty) if one.id == id else one for one in self)
        return Findings(changed)


@dataclass(frozen=True)
class Rule:
    """The fixed text of a rule of the examination.

    Attributes:
        id: Identifier, such as "T06".
        name: Name of the fault, such as "dead_units".
        source: Publication or library that the threshold is from.
        causes: Possible causes, the most likely first.
        advice: Remedies, the most effective first.
        confirm: One cheap experiment that confirms or refutes a finding.
    """

    id: str
    name: str
    source: str
    causes: tuple[str, ...]
    advice: tuple[str, ...]
    confirm: str

    def finding(
        self,
        severity: str,
        title: str,
        measured: Mapping[str, Any],
        threshold: str,
        *,
        layer: str | None = None,
        steps: tuple[int, int] | None = None,
        advice: Iterable[str] = (),
    ) -> Finding:
        """Return a finding of this rule.

        Args:
            severity: "error", "warning" or "info".
            title: The fault in one sentence, with the measured value.
            measured: Measured values by name.
            threshold: The condition that the values met.
            layer: Path of the layer or parameter, or None.
            steps: First and last step, or None.
            advice: Remedies that depend on the measured values; they precede those of the rule.
        """
        remedies = (*advice, *self.advice)
        return Finding(
            id=self.id,
            name=self.name,
            severity=severity,
            title=title,
            layer=layer,
            steps=steps,
            measured=dict(measured),
            threshold=threshold,
            source=self.source,
            causes=self.causes,
            advice=remedies,
            confirm=self.confirm,
        )
