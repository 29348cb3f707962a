"""Experiments with the rate, the length of a run, and the size and sign of updates."""

from typing import Any

import numpy as np

from fnn.diagnose.arms import Arms, gains, judge
from fnn.diagnose.curves import find_spikes
from fnn.diagnose.findings import CONFIRMED, LIKELY, REFUTED, Finding
from fnn.diagnose.layer_gradients import differentiate
from fnn.diagnose.outcomes import (
    LEAST_GAIN,
    LEAST_VALID_GAIN,
    Outcome,
    compare,
    compare_scores,
    not_run,
    number_text,
    percent_text,
    unless_short,
)
from fnn.diagnose.profile import profile
from fnn.diagnose.thresholds import DEFAULT
from fnn.diagnose.treatments import adjust_rate, clip_gradients, scale_updates
from fnn.optim.per_parameter import global_norm
from fnn.train.epoch import next_batch
from fnn.train.recipe import Recipe
from fnn.train.run import run
from fnn.train.step import start_on_data
from fnn.types import TrainState

LOWER, HIGHER = (0.1, 0.01), (10.0, 100.0)  # factors of the rate
KEPT_SHARE = 0.75  # of the steps after a drop of the rate, during which it is kept
TAIL_QUANTITY = "mean loss of the last quarter"
LEAST_SCORE = 0.05  # rise of the accuracy or of the explained variance that counts
LEAST_FEWER_JUMPS = 0.5  # share of the jumps that must be gone
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
    control = arms.run(adjust_rate(arms.recipe, 1.0))
    treated = {}
    for factor in factors:
        name = f"at {factor:g} times the rate"
        treated[name] = arms.run(adjust_rate(arms.recipe, factor)).tail_loss
    outcome = compare(
        TAIL_QUANTITY,
        control.tail_loss,
        treated,
        LEAST_GAIN,
    )
    return unless_short(outcome, control.losses)


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


def longer(finding: Finding, arms: Arms) -> Outcome:
    """Train for twice the epochs, with schedules of twice the length."""
    if arms.task.valid is None:
        return not_run("the loss that would fall is that of valid=")
    control = arms.run(adjust_rate(arms.recipe, 1.0))
    name = f"after {2 * arms.task.epochs} epochs"
    treated = {name: arms.run(adjust_rate(arms.recipe, 1.0, stretch=2.0), times=2).valid_loss}
    return compare(
        f"loss on the validation data after {arms.task.epochs} epochs",
        control.valid_loss,
        treated,
        LEAST_VALID_GAIN,
    )


# Jumps and signs.


def clipped(finding: Finding, arms: Arms) -> Outcome:
    """Clip gradients, and lower the rate: jumps of the loss that updates cause are gone."""
    limit = _first_gradient_norm(arms)
    control = arms.run(clip_gradients(arms.recipe, np.inf))
    least = DEFAULT.spike_level * (arms.chance or float(control.losses[:, 0].mean()))
    before = _count_jumps(control.losses, least)
    figures = {"jumps": float(before.mean())}
    if not before.any():
        account = f"none of the {len(before)} runs has a jump of the loss"
        return Outcome(REFUTED, account, figures)
    treated = {
        "with clipped gradients": clip_gradients(arms.recipe, limit),
        "with gradients clipped to a tenth": clip_gradients(arms.recipe, 0.1 * limit),
        "at 0.1 times the rate": adjust_rate(arms.recipe, 0.1),
    }
    effects = {}
    for name, recipe in treated.items():
        after = _count_jumps(arms.run(recipe).losses, least)
        figures[name] = float(after.mean())
        effects[name] = gains(before, after)
    best = max(effects, key=lambda name: float(effects[name].mean()))
    account = (
        f"{number_text(before)} jumps of the loss per run as it is, {figures[best]:.4g} {best}: "
        f"a fall of {percent_text(effects[best])}"
    )
    # Jumps that no smaller update removes are jumps, of another cause.
    is_cause = judge(effects[best], LEAST_FEWER_JUMPS) == CONFIRMED
    return Outcome(CONFIRMED if is_cause else LIKELY, account, figures)


def _count_jumps(losses: np.ndarray, least: float) -> np.ndarray:
    """Return the number of jumps of each run (keys,)."""
    with np.errstate(invalid="ignore"):
        counts = [len(find_spikes(row, DEFAULT.spike_ratio, least)) for row in losses]
    return np.array(counts, float)


def _first_gradient_norm(arms: Arms) -> float:
    first = start_on_data(arms.recipe, arms.key, arms.data)
    batch = next_batch(
        arms.recipe,
        first,
        arms.data,
        arms.task.batch_size,
    )
    grads = differentiate(arms.recipe, first, *batch, ()).grads
    norm = float(global_norm(grads))
    # Of a gradient that is 0 or not finite there is no tenth.
    return norm if np.isfinite(norm) and norm > 0 else 1.0


def opposite_sign(finding: Finding, arms: Arms) -> Outcome:
    """Negate the updates, and lower the rate: a loss that rises falls by one of both."""
    control = arms.run(scale_updates(arms.recipe, 1.0)).tail_loss
    treated = {
        "with negated updates": arms.run(scale_updates(arms.recipe, -1.0)).tail_loss,
        "at 0.1 times the rate": arms.run(adjust_rate(arms.recipe, 0.1)).tail_loss,
    }
    return compare(
        TAIL_QUANTITY,
        control,
        treated,
        LEAST_GAIN,
    )


def opposite_loss(finding: Finding, arms: Arms) -> Outcome:
    """Negate the updates: where the sign of the loss is wrong, the outputs get better by it."""
    before = arms.run(scale_updates(arms.recipe, 1.0)).scores
    after = arms.run(scale_updates(arms.recipe, -1.0)).scores
    if not np.isfinite(before).all():
        return not_run("the score of these targets is not known")
    return compare_scores(
        f"score on the {arms.figure_of_test}",
        before,
        "with negated updates",
        after,
        LEAST_SCORE,
    )


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
