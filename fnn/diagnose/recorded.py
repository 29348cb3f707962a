"""The examination of a recorded history alone, which computes nothing on the device."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fnn import checks
from fnn.diagnose import decay_rules, progress_rules, rate_rules
from fnn.diagnose.baselines import Baselines
from fnn.diagnose.causes import rank
from fnn.diagnose.evidence import OTHER, Evidence, Task
from fnn.diagnose.findings import Finding, Findings
from fnn.diagnose.loss_probes import Probes
from fnn.diagnose.observation import Observation
from fnn.diagnose.thresholds import DEFAULT, Thresholds
from fnn.diagnose.update_lines import FRACTIONS
from fnn.errors import ConfigError
from fnn.train.figures import FINITE, LOSS

RULES = (
    rate_rules.rate_too_high,
    decay_rules.cut_too_early,
    *progress_rules.RULES,
)


def examine_history(
    history: Mapping[str, Any],
    *,
    epoch_length: int,
    chance: float | None = None,
    thresholds: Thresholds = DEFAULT,
) -> Findings:
    """Name the faults of a run that its recorded figures show.

    These are the rules T04, T09 to T14, E03 and E04, as far as they need no statistics of the
    network. `lab.fit` prints their errors and warnings at the end of a run; `examine` applies all
    rules.

    Args:
        history: Figures of one run by name: loss and rate (steps,), valid_loss (epochs,).
        epoch_length: Steps per epoch.
        chance: Loss of the best constant output, such as log(classes); None if it is not known.
            Levels are then relative to the first loss, and T13 does not apply.
        thresholds: Numbers at which rules report.

    Returns:
        The findings, errors first, and within a severity causes first.

    Raises:
        ConfigError: The history is that of several lanes, or an argument is out of range.
    """
    checks.whole("examine_history epoch_length", epoch_length)
    losses = np.asarray(history[LOSS], float)
    if losses.ndim != 1:
        raise ConfigError(
            "examine_history history",
            "figures of one run, (steps,)",
            losses.shape,
            "examine one lane: {name: values[0] for name, values in history.items()}",
        )
    figures = {name: np.asarray(values) for name, values in history.items()}
    finite = figures.get(FINITE, np.ones(len(losses), bool)).astype(bool) & np.isfinite(losses)
    if len(losses) < 2 or not finite.all():
        # The error of the step, or `examine`, names the fault.
        return Findings()
    evidence = _evidence(
        figures,
        losses,
        epoch_length,
        chance,
    )
    found: list[Finding] = []
    with np.errstate(all="ignore"):
        for rule in RULES:
            # A run that continues another one begins far below chance.
            if chance is not None or rule is not progress_rules.no_progress:
                found += rule(evidence, thresholds)
    return rank(found)


def _evidence(
    figures: Mapping[str, np.ndarray],
    losses: np.ndarray,
    epoch_length: int,
    chance: float | None,
) -> Evidence:
    """Return evidence whose levels are those of the recorded losses, without statistics."""
    known = math.nan if chance is None else chance
    last = losses[-max(1, len(losses) // 10) :]
    probes = Probes(chance=known, even=known)
    task = Task(
        OTHER,
        (),
        (),
        np.zeros(0),
        probes,
        Baselines(),
    )
    return Evidence(
        history=figures,
        epoch_length=epoch_length,
        batch_size=0,
        examples=0,
        layers=(),
        kinds=(),
        parameters=(),
        frozen=frozenset(),
        change=np.zeros(0),
        still=(),
        start=_without_statistics(losses[:1]),
        end=_without_statistics(last),
        task=task,
    )


def _without_statistics(losses: np.ndarray) -> Observation:
    none = np.zeros(0)
    line = np.full((1, len(FRACTIONS)), np.nan)
    values: dict[str, Any] = dict.fromkeys(Observation._fields, none)
    values |= {
        "losses": losses,
        "line": line,
        "other_line": line,
        "slope": np.array(np.nan),
    }
    values |= {
        "rate": np.array(np.nan),
        "outputs": (),
        "valid_outputs": (),
    }
    return Observation(**values)
