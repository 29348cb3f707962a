"""The examination of a recorded history alone, which computes nothing on the device."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fnn import checks
from fnn.diagnose import decay_rules, layer_rules, progress_rules, rate_rules
from fnn.diagnose.baselines import Baselines
from fnn.diagnose.causes import rank
from fnn.diagnose.curves import has_fallen
from fnn.diagnose.evidence import OTHER, Evidence, Task
from fnn.diagnose.findings import Finding, Findings
from fnn.diagnose.loss_probes import Probes
from fnn.diagnose.observation import Observation
from fnn.diagnose.thresholds import DEFAULT, Thresholds
from fnn.diagnose.update_lines import FRACTIONS
from fnn.errors import ConfigError
from fnn.train.figures import FINITE, LOSS

# Rules that hold for a run under way. Those of the end would report what more steps will mend.
UNDER_WAY = (
    rate_rules.rate_too_high,
    decay_rules.cut_too_early,
    layer_rules.dead_units,
    layer_rules.saturated_units,
    progress_rules.spikes,
    progress_rules.hockey_stick,
    progress_rules.no_progress,
    progress_rules.loss_rises,
)
AT_END = (
    progress_rules.plateau,
    progress_rules.train_longer,
    progress_rules.trained_too_long,
)
DEAD, SATURATED = SHARES = ("dead_share", "saturated_share")  # instruments that these rules read
FIRST_SHARE = 0.1  # of the planned steps, before which warm-up and initialization dominate

PROGRESS_SHARE = 0.2  # of the planned steps, after which a loss must have fallen


def examine_history(
    history: Mapping[str, Any],
    *,
    epoch_length: int,
    chance: float | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    planned_steps: int | None = None,
    thresholds: Thresholds = DEFAULT,
) -> Findings:
    """Name the faults of a run that its recorded figures show.

    These are the rules T04, T09 to T14, E03 and E04, and with recorded instruments T06 and T07.
    `lab.fit` prints their errors and warnings during and after a run; `examine` applies all rules.

    A run under way has `planned_steps`. Rules that judge the end of a run then do not apply, and
    none does in the first tenth of the steps. The others ask for more: a fifth of the steps for
    T13, several jumps for T09, and for T12 a rate that stays low for the share of the planned steps
    that counts at the end.

    Args:
        history: Figures of one run by name: loss and rate (steps,), valid_loss (epochs,).
        epoch_length: Steps per epoch.
        chance: Loss of the best constant output, such as log(classes); None if it is not known.
            Levels are then relative to the first loss, and T13 does not apply.
        columns: Layers along the second axis of "dead_share" and "saturated_share" in the history,
            as by `layer_names`; None without instruments.
        planned_steps: Steps of the whole run, of which the history has the first ones; None for a
            run that is over.
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
    is_over = planned_steps is None
    if planned_steps is not None and len(losses) < FIRST_SHARE * planned_steps:
        return Findings()
    evidence = _evidence(
        figures,
        losses,
        epoch_length,
        chance,
        {} if columns is None else columns,
    )
    found: list[Finding] = []
    with np.errstate(all="ignore"):
        for rule in (*UNDER_WAY, *AT_END) if is_over else UNDER_WAY:
            # A run that continues another one begins far below chance.
            if chance is not None or rule is not progress_rules.no_progress:
                found += rule(evidence, thresholds)
    if planned_steps is not None:
        found = [one for one in found if _will_last(one, losses, planned_steps, thresholds)]
    return rank(found)


def _will_last(
    finding: Finding,
    losses: np.ndarray,
    planned_steps: int,
    limits: Thresholds,
) -> bool:
    """Return whether a finding on the first steps of a run will hold at its end as well."""
    if finding.id == decay_rules.CUT_TOO_EARLY.id and finding.steps is not None:
        # Cosine restarts and cycles have a low rate as well, for a shorter time.
        return len(losses) - finding.steps[0] >= limits.cut_rest * planned_steps
    if finding.id == progress_rules.SPIKE.id:
        # A run recovers from one jump.
        return bool(finding.measured["spikes"] > 1)
    if finding.id == progress_rules.NO_PROGRESS.id:
        # Warm-up takes a tenth of many runs, and a loss far above chance may still fall.
        level = min(finding.measured["level"], finding.measured["last steps"])
        if len(losses) < PROGRESS_SHARE * planned_steps or level < 1 - limits.progress / 2:
            return False
        return not has_fallen(losses[len(losses) // 2 :], limits.progress)
    if finding.id == layer_rules.SATURATED.id:
        # Units saturate in healthy runs too, whose loss is still high early.
        return bool(finding.measured["at start"] >= limits.saturated_share)
    return True


def _evidence(
    figures: Mapping[str, np.ndarray],
    losses: np.ndarray,
    epoch_length: int,
    chance: float | None,
    columns: Mapping[str, Sequence[str]],
) -> Evidence:
    """Return evidence whose levels are those of the recorded losses and instruments."""
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
    recorded = [name for name in SHARES if name in columns and name in figures]
    shares = {name: np.asarray(figures[name], float) for name in recorded}
    return Evidence(
        history=figures,
        epoch_length=epoch_length,
        batch_size=0,
        examples=0,
        layers=tuple(columns.get(DEAD, ())),
        kinds=(),
        parameters=(),
        frozen=frozenset(),
        change=np.zeros(0),
        still=(),
        start=_observation(losses[:1], shares, 0),
        end=_observation(last, shares, -1),
        task=task,
        columns={name: tuple(columns[name]) for name in shares},
    )


def _observation(
    losses: np.ndarray,
    shares: Mapping[str, np.ndarray],
    index: int,
) -> Observation:
    """Return the losses and the recorded shares of units, without other statistics.

    Args:
        losses: (steps,).
        shares: Rows of instruments by name, (steps, layers); NaN for steps that are not measured.
        index: Which of the measured rows, 0 for the first and -1 for the last.
    """
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
    for name, rows in shares.items():
        # Without a layer of this kind, all rows are NaN.
        measured = rows[~np.isnan(rows).all(1)]
        values[name] = measured[index] if len(measured) else np.full(rows.shape[1], np.nan)
        # The history has no number of units.
        values["units"] = np.full(rows.shape[1], np.inf)
    return Observation(**values)
