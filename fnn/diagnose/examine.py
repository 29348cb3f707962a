"""The examination of a run: collects its evidence, applies all rules, and ranks the findings."""

from typing import Any

import numpy as np

from fnn import checks, trees
from fnn.diagnose import (
    decay_rules,
    fit_rules,
    gradient_rules,
    layer_rules,
    objective_rules,
    progress_rules,
    rate_rules,
)
from fnn.diagnose.causes import rank
from fnn.diagnose.evidence import Evidence, collect
from fnn.diagnose.findings import Finding, Findings
from fnn.diagnose.localize import Location, localize
from fnn.diagnose.preflight import preflight as check_before
from fnn.diagnose.run_checks import (
    expect_batch_size,
    expect_full_epochs,
    expect_result,
    expect_trained_by,
    find_batch_size,
)
from fnn.diagnose.thresholds import Thresholds
from fnn.errors import ConfigError, NonFiniteError
from fnn.train.arrays import validate_data
from fnn.train.figures import FINITE, LOSS, is_validation
from fnn.train.inputs import validate_fit
from fnn.train.nonfinite import replay_to_step
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.run import run
from fnn.train.step import start_on_data, steps_per_epoch
from fnn.types import Data, Result, TrainState

RULES = (
    *objective_rules.RULES,
    *rate_rules.RULES,
    *decay_rules.RULES,
    *progress_rules.RULES,
    *gradient_rules.RULES,
    *layer_rules.RULES,
    *fit_rules.RULES,
)


def examine(
    recipe: Recipe,
    result: Result | NonFiniteError,
    data: Data,
    *,
    valid: Data | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    thresholds: Thresholds | None = None,
    preflight: bool = True,
) -> Findings:
    """Name the faults of a run, from its history and from its network at start and end.

    The start is computed again from the run's key. At both ends the layers, the gradients, and the
    loss along the next updates are measured on training examples, and outputs are compared with
    baselines. A step that is not finite is replayed, and the layer is named. The rules T01 to T16,
    T19 and E01 to E10 then apply. Findings that another one explains are information.

    A recipe with on_nonfinite="raise" has no result where a step is not finite: give the error
    instead, and the run is computed again up to that step.

    Args:
        recipe: From `train.recipe`, with an optimizer.
        result: Of `train.run` or `lab.fit` with this recipe; or the NonFiniteError that it raised.
        data: (inputs, targets), the training data of the run.
        valid: (inputs, targets) of validation; None for none. The rules of generalization need it.
        batch_size: Examples per step of the run; by default it follows from the number of steps
            and `epochs`.
        epochs: Number of epochs of the history; by default that of its figures of validation.
        thresholds: Numbers at which rules report; None for the defaults.
        preflight: Whether to apply the rules of `diagnose.preflight` as well, without its short
            runs. They check data, structure and initialization.

    Returns:
        The findings, errors first, and within a severity causes first.

    Raises:
        ConfigError: An argument is not of the type described here, the result has several lanes or
            no steps, or the batch size is not known.
        FnnError: The data does not fit the recipe, as for `train.run`.
    """
    checks.flag("examine preflight", preflight)
    limits = Thresholds() if thresholds is None else thresholds
    if not isinstance(limits, Thresholds):
        raise ConfigError(
            "examine thresholds",
            "a value of diagnose.Thresholds(...)",
            checks.show(thresholds),
            "name the numbers to change, as in diagnose.Thresholds(gap_level=0.2)",
        )
    evidence = evidence_of(
        recipe,
        result,
        data,
        valid=valid,
        batch_size=batch_size,
        epochs=epochs,
    )
    found = _find(evidence, limits)
    if preflight:
        key = result.train_state.key
        # A run that ended early has fewer steps than it was planned for.
        is_whole = not evidence.is_cut and recipe.early_stopping is None
        steps = len(evidence.history[LOSS]) if is_whole else None
        found += check_before(
            key,
            recipe,
            data,
            valid=valid,
            steps=steps,
            short_runs=False,
        )
    return rank(found)


def apply_rules(
    evidence: Evidence,
    thresholds: Thresholds,
) -> Findings:
    """Apply all rules to the evidence of a run, and rank their findings.

    Args:
        evidence: Of a run.
        thresholds: Numbers at which rules report.
    """
    return rank(_find(evidence, thresholds))


def _find(
    evidence: Evidence,
    thresholds: Thresholds,
) -> list[Finding]:
    """Return the findings of all rules, in the order of the rules."""
    found: list[Finding] = []
    # Figures of a run that has diverged overflow; comparisons with NaN are false.
    with np.errstate(all="ignore"):
        for rule in RULES:
            found += rule(evidence, thresholds)
    return found


def evidence_of(
    recipe: Recipe,
    result: Result | NonFiniteError,
    data: Data,
    *,
    valid: Data | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
) -> Evidence:
    """Collect the evidence of a run, to which `apply_rules` applies the rules.

    Args:
        recipe: As for `examine`.
        result: As for `examine`.
        data: As for `examine`.
        valid: As for `examine`.
        batch_size: As for `examine`.
        epochs: As for `examine`.
    """
    expect_recipe("examine", recipe)
    data = validate_data("data", data)
    if valid is not None:
        valid = validate_data("valid", valid)
    validate_fit(recipe, data, valid)
    trees.expect_known("examine", (recipe, result, data, valid))
    if isinstance(result, NonFiniteError):
        size = expect_batch_size(batch_size)
        result = _run_until(
            recipe,
            result,
            data,
            size,
        )
    expect_result(result)
    expect_trained_by("examine result", recipe, result.train_state)
    history = {name: np.asarray(values) for name, values in result.history.items()}
    size = find_batch_size(
        history,
        data,
        batch_size,
        epochs,
    )
    expect_full_epochs(result, history, steps_per_epoch(data, size), size)
    first = start_on_data(recipe, result.train_state.key, data)
    last, location = _before_failure(
        recipe,
        first,
        result,
        history,
        data,
        size,
    )
    is_cut = False
    if location is not None and not _recovers(recipe, history):
        is_cut = True
        history = _until(history, location.step, steps_per_epoch(data, size))
    else:
        last = result.train_state
        history = _without_skipped(history)
    return collect(
        recipe,
        (first, last),
        history,
        data,
        valid,
        size,
        location,
        is_cut,
    )


def _run_until(
    recipe: Recipe,
    error: NonFiniteError,
    data: Data,
    batch_size: int,
) -> Result:
    """Run again up to the step of an error, without an end."""
    if error.train_state is None:
        raise ConfigError(
            "examine result",
            "an error of a step of training",
            checks.show(error),
            'train with on_nonfinite="ignore", and give the result',
        )
    expect_trained_by("examine result", recipe, error.train_state)
    epoch_length = steps_per_epoch(data, batch_size)
    epochs = error.step // epoch_length + 1
    endless: Any = recipe
    tolerant = endless.replace(on_nonfinite="ignore", early_stopping=None)
    return run(
        error.train_state.key,
        tolerant,
        data,
        epochs=epochs,
        batch_size=batch_size,
    )


def _before_failure(
    recipe: Recipe,
    first: TrainState,
    result: Result,
    history: Any,
    data: Data,
    batch_size: int,
) -> tuple[TrainState, Location | None]:
    """Return the last train state of a run whose numbers are finite, and where the next fails."""
    finite = np.asarray(history.get(FINITE, np.ones(1, bool)), bool)
    if finite.all():
        return result.train_state, None
    index = int(finite.argmin())
    offset = max(int(result.train_state.step) - len(finite), 0)
    endless: Any = recipe
    tolerant = endless.replace(on_nonfinite="ignore", early_stopping=None)
    before = replay_to_step(
        tolerant,
        first,
        data,
        None,
        batch_size,
        index + offset,
    )
    location = localize(
        recipe,
        before,
        data,
        batch_size=batch_size,
    )
    if location is None:
        # Another batch size, or a run on other data.
        location = Location(
            "unknown",
            "forward",
            index + offset,
            np.nan,
        )
    return before, location


def _recovers(
    recipe: Recipe,
    history: Any,
) -> bool:
    """Return whether a run continued after its non-finite steps, which it skipped."""
    return recipe.on_nonfinite == "skip" and bool(np.asarray(history[FINITE])[-1])


def _without_skipped(history: Any) -> dict[str, np.ndarray]:
    """Return a history where skipped steps have the figures of the step before."""
    finite = np.asarray(history.get(FINITE, np.ones(1, bool)), bool)
    if finite.all():
        return dict(history)
    # The index of the last finite step up to each step; the first one before any.
    index = np.maximum.accumulate(np.where(finite, np.arange(len(finite)), finite.argmax()))
    index = np.maximum(index, finite.argmax())
    return {
        name: values if is_validation(name) else values[index] for name, values in history.items()
    }


def _until(
    history: Any,
    step: int,
    epoch_length: int,
) -> dict[str, np.ndarray]:
    """Return the history of the steps before a step, of which there is at least one."""
    steps = max(step, 1)
    cut = {}
    for name, values in history.items():
        cut[name] = values[: steps // epoch_length] if is_validation(name) else values[:steps]
    return cut
