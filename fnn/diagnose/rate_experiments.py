"""Experiments with the rate and the initialization."""

from typing import Any

import numpy as np

from fnn.diagnose.arms import Arms
from fnn.diagnose.findings import CONFIRMED, LIKELY, REFUTED, Finding
from fnn.diagnose.outcomes import (
    LEAST_GAIN,
    LEAST_VALID_GAIN,
    Outcome,
    compare,
    not_run,
    unless_it_learns,
)
from fnn.diagnose.profile import profile
from fnn.diagnose.treatments import adjust_rate
from fnn.train.recipe import Recipe
from fnn.train.run import run
from fnn.train.step import start_on_data
from fnn.types import TrainState

LOWER, HIGHER = (0.1, 0.01), (10.0, 100.0)  # factors of the rate
KEPT_SHARE = 0.75  # of the steps after a drop of the rate, during which it is kept
TAIL_QUANTITY = "mean loss of the last quarter"
LEAST_AREA_GAIN = 0.2  # fall of the mean loss of a run, relative to the loss at its start
LEAST_DEAD = 0.4  # share of dead units: of a rate that is too high [CS231n]
DEAD_EXAMPLES = 4096  # on which dead units are counted


# Rates.


def lower_rate(finding: Finding, arms: Arms) -> Outcome:
    """Lower the rate: a rate that is too high leaves a higher loss than a tenth of it."""
    return _change_rate(arms, LOWER)


def raise_rate(finding: Finding, arms: Arms) -> Outcome:
    """Raise the rate: a rate that is too low leaves a higher loss than ten times the rate."""
    return _change_rate(arms, HIGHER)


def _change_rate(arms: Arms, factors: tuple[float, ...]) -> Outcome:
    control = arms.run(adjust_rate(arms.recipe, 1.0)).tail_loss
    treated = {}
    for factor in factors:
        name = f"at {factor:g} times the rate"
        treated[name] = arms.run(adjust_rate(arms.recipe, factor)).tail_loss
    return compare(
        TAIL_QUANTITY,
        control,
        treated,
        LEAST_GAIN,
    )


def late_tenth(finding: Finding, arms: Arms) -> Outcome:
    """Continue the second half at a tenth of the rate: a loss that oscillates falls by it."""
    control = arms.run(adjust_rate(arms.recipe, 1.0))
    half = control.losses.shape[1] // 2
    treated = arms.run(adjust_rate(arms.recipe, 0.1, since=half))
    if np.allclose(treated.rates[:, 0], 0.1 * control.rates[:, 0]):
        return not_run("the optimizer has no rate that can change within a run")
    name = f"at 0.1 times the rate from step {half} on"
    losses = {name: treated.tail_loss}
    return compare(
        TAIL_QUANTITY,
        control.tail_loss,
        losses,
        LEAST_GAIN,
    )


def exploding(finding: Finding, arms: Arms) -> Outcome:
    """Lower the rate, and rescale the kernels: a run that explodes gains by one of both."""
    lower = lower_rate(finding, arms)
    scaled = rescaled(finding, arms)
    figures = {**lower.figures, **scaled.figures}
    account = f"{lower.account}; {scaled.account}"
    certainties = {lower.certainty, scaled.certainty}
    if CONFIRMED in certainties:
        return Outcome(CONFIRMED, account, figures)
    both = REFUTED if certainties == {REFUTED} else LIKELY
    return unless_it_learns(Outcome(both, account, figures), arms)


def later_drop(finding: Finding, arms: Arms) -> Outcome:
    """Keep the rate for most of the steps after its drop: one that was too early gains by it."""
    control = arms.run(adjust_rate(arms.recipe, 1.0))
    steps = control.losses.shape[1]
    drop = finding.steps[0] if finding.steps else _largest_drop(control.rates[0])
    if not 0 < drop < steps:
        return not_run(f"the rate has no drop within the {steps} steps of the experiment")
    end = drop + round(KEPT_SHARE * (steps - drop))
    later = arms.run(adjust_rate(arms.recipe, 1.0, kept=(drop, end)))
    if np.allclose(later.rates, control.rates, rtol=1e-3, equal_nan=True):
        return not_run("the rate of this optimizer follows no schedule")
    name = f"with the rate of step {drop - 1} kept until step {end}"
    quantity = f"loss on the {arms.figure_of_test} at the end"
    treated = {name: later.valid_loss}
    return compare(
        quantity,
        control.valid_loss,
        treated,
        LEAST_VALID_GAIN,
    )


def _largest_drop(rates: np.ndarray) -> int:
    """Return the step of the largest relative drop of the rate; 0 if it never falls."""
    before = rates[:-1]
    after = rates[1:]
    if not (before > after).any():
        return 0
    # A drop to 0 is the largest one.
    ratios = before / np.maximum(after, np.finfo(np.float32).tiny)
    return 1 + int(np.argmax(ratios))


# Dead units.


def dead_units(finding: Finding, arms: Arms) -> Outcome:
    """Count dead units on many examples, also before training and at a tenth of the rate."""
    if arms.result is None:
        return not_run("there is no complete run")
    recipe = adjust_rate(arms.recipe, 0.1)
    tolerant: Any = recipe
    lower = run(
        arms.key,
        tolerant.replace(on_nonfinite="ignore"),
        arms.data,
        epochs=arms.task.epochs,
        batch_size=arms.task.batch_size,
    )
    last = arms.result.train_state
    share = _dead_share(
        finding,
        arms.recipe,
        last,
        arms,
    )
    first = start_on_data(arms.recipe, arms.key, arms.data)
    untrained = _dead_share(
        finding,
        arms.recipe,
        first,
        arms,
    )
    at_tenth = _dead_share(
        finding,
        recipe,
        lower.train_state,
        arms,
    )
    figures = {
        "share": share,
        "before training": untrained,
        "at 0.1 times the rate": at_tenth,
    }
    account = (
        f"dead units on up to {DEAD_EXAMPLES} examples {share:.0%}, "
        f"{untrained:.0%} before training, {at_tenth:.0%} at 0.1 times the rate"
    )
    certainty = CONFIRMED if share >= LEAST_DEAD else REFUTED
    return Outcome(certainty, account, figures)


def _dead_share(
    finding: Finding,
    recipe: Recipe,
    train_state: TrainState,
    arms: Arms,
) -> float:
    """Return the share of dead units of a layer, or the largest one of all layers."""
    found = profile(recipe, train_state, arms.data, examples=DEAD_EXAMPLES)
    shares = dict(zip(found.layers, np.asarray(found.dead_share).tolist(), strict=True))
    if finding.layer in shares:
        return shares[finding.layer]
    return float(np.nanmax([0.0, *shares.values()]))


# Initialization.


def rescaled(finding: Finding, arms: Arms) -> Outcome:
    """Rescale the initial kernels: a bad scale of them costs steps."""
    control = arms.run(arms.recipe, rescaled=False)
    treated = {"with kernels rescaled by LSUV": arms.run(arms.recipe, rescaled=True).mean_loss}
    return compare(
        "mean training loss",
        control.mean_loss,
        treated,
        LEAST_AREA_GAIN,
        scale=control.losses[:, 0],
    )


def vanishing(finding: Finding, arms: Arms) -> Outcome:
    """Rescale the initial kernels: small gradients are harmless if it gains nothing."""
    outcome = rescaled(finding, arms)
    return unless_it_learns(outcome, arms)
