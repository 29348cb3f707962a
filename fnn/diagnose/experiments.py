"""Experiments that confirm or refute a finding, one for each rule that has one.

Each is a function of a finding and of the arms of the examined run. It compares a treatment, which
removes the supposed fault, with a control: a fault that is real costs what its removal gains.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from fnn import data as data_room
from fnn.diagnose.arms import Arms, gains, judge, standard_error
from fnn.diagnose.findings import CONFIRMED, LIKELY, REFUTED, Finding
from fnn.diagnose.localize import localize
from fnn.diagnose.treatments import (
    adjust_rate,
    scale_inputs,
    shrink,
    weaken,
    weigh_classes,
)
from fnn.ensemble import refresh_statistics
from fnn.train import evaluate
from fnn.train.figures import LOSS

# The least effects that count; ours, since no publication has such experiments.
LEAST_GAIN = 0.1  # relative fall of a loss
LEAST_VALID_GAIN = 0.05  # relative fall of a loss at the end, which has less noise
LEAST_AREA_GAIN = 0.2  # fall of the mean loss of a run, relative to the loss at its start
LEAST_RECALL = 0.05  # rise of the mean recall of classes
LEARNED = 0.1  # relative fall of the training loss within a run that learns
# The treatments.
LOWER, HIGHER = (0.1, 0.01), (10.0, 100.0)  # factors of the rate
DECAYS = (0.3, 1.0, 3.0)  # shares of the kernels that all steps together subtract
WEAKER = (0.1, 0.0)  # factors of the regularization
TAIL_QUANTITY = "mean loss of the last quarter"
KEPT_SHARE = 0.75  # of the steps after a drop of the rate, during which it is kept


class Outcome(NamedTuple):
    """The result of an experiment.

    Attributes:
        certainty: "confirmed", "refuted" or "likely"; None if there was no experiment.
        account: The experiment and its numbers, as a sentence.
        figures: The numbers by name.
    """

    certainty: str | None
    account: str
    figures: Mapping[str, float]


def _not_run(reason: str) -> Outcome:
    return Outcome(None, f"not run: {reason}", {})


# Replay.


def _replayed(finding: Finding, arms: Arms) -> Outcome:
    """Compute the step that was not finite again, layer by layer, forward then backward."""
    before = arms.before_failure
    if before is None:
        return _not_run("all steps of the run are finite")
    recipe = arms.recipe
    place = localize(recipe, before, arms.data, batch_size=arms.task.batch_size)
    if place is None:
        account = f"step {int(before.step)} again is finite"
        return Outcome(REFUTED, account, {"step": int(before.step)})
    account = (
        f"step {place.step} again: the first number that is not finite arises in {place.layer}, "
        f"{place.direction}, from numbers up to {place.largest:.4g}"
    )
    return Outcome(CONFIRMED, account, {"step": place.step, "largest": place.largest})


# Rates.


def _lower_rate(finding: Finding, arms: Arms) -> Outcome:
    """Lower the rate: a rate that is too high leaves a higher loss than a tenth of it."""
    return _change_rate(arms, LOWER)


def _raise_rate(finding: Finding, arms: Arms) -> Outcome:
    """Raise the rate: a rate that is too low leaves a higher loss than ten times the rate."""
    return _change_rate(arms, HIGHER)


def _change_rate(arms: Arms, factors: tuple[float, ...]) -> Outcome:
    control = arms.run(adjust_rate(arms.recipe, 1.0)).tail_loss
    treated = {}
    for factor in factors:
        name = f"at {factor:g} times the rate"
        treated[name] = arms.run(adjust_rate(arms.recipe, factor)).tail_loss
    return _compare(TAIL_QUANTITY, control, treated, LEAST_GAIN)


def _late_tenth(finding: Finding, arms: Arms) -> Outcome:
    """Continue the second half at a tenth of the rate: a loss that oscillates falls by it."""
    control = arms.run(adjust_rate(arms.recipe, 1.0))
    half = control.losses.shape[1] // 2
    treated = arms.run(adjust_rate(arms.recipe, 0.1, since=half))
    if np.allclose(treated.rates[:, 0], 0.1 * control.rates[:, 0]):
        return _not_run("the optimizer has no rate that can change within a run")
    name = f"at 0.1 times the rate from step {half} on"
    losses = {name: treated.tail_loss}
    return _compare(TAIL_QUANTITY, control.tail_loss, losses, LEAST_GAIN)


def _exploding(finding: Finding, arms: Arms) -> Outcome:
    """Lower the rate, and rescale the kernels: a run that explodes gains by one of both."""
    lower = _lower_rate(finding, arms)
    scaled = _rescaled(finding, arms)
    figures = {**lower.figures, **scaled.figures}
    account = f"{lower.account}; {scaled.account}"
    certainties = {lower.certainty, scaled.certainty}
    if CONFIRMED in certainties:
        return Outcome(CONFIRMED, account, figures)
    both = REFUTED if certainties == {REFUTED} else LIKELY
    return _unless_it_learns(Outcome(both, account, figures), arms)


def _later_drop(finding: Finding, arms: Arms) -> Outcome:
    """Keep the rate for most of the steps after its drop: one that was too early gains by it."""
    control = arms.run(adjust_rate(arms.recipe, 1.0))
    steps = control.losses.shape[1]
    drop = finding.steps[0] if finding.steps else _largest_drop(control.rates[0])
    if not 0 < drop < steps:
        return _not_run(f"the rate has no drop within the {steps} steps of the experiment")
    end = drop + round(KEPT_SHARE * (steps - drop))
    later = arms.run(adjust_rate(arms.recipe, 1.0, kept=(drop, end)))
    if np.allclose(later.rates, control.rates, rtol=1e-3, equal_nan=True):
        return _not_run("the rate of this optimizer follows no schedule")
    name = f"with the rate of step {drop - 1} kept until step {end}"
    quantity = f"loss on the {arms.figure_of_test} at the end"
    treated = {name: later.valid_loss}
    return _compare(quantity, control.valid_loss, treated, LEAST_VALID_GAIN)


def _largest_drop(rates: np.ndarray) -> int:
    """Return the step of the largest relative drop of the rate; 0 if it never falls."""
    before = rates[:-1]
    after = rates[1:]
    if not (before > after).any():
        return 0
    # A drop to 0 is the largest one.
    ratios = before / np.maximum(after, np.finfo(np.float32).tiny)
    return 1 + int(np.argmax(ratios))


# Inputs and targets.


def _ignored_inputs(finding: Finding, arms: Arms) -> Outcome:
    """Compare with zeroed inputs and permuted labels: a run that learns beats both."""
    whole = scale_inputs(arms.recipe, 1.0)
    real = arms.run(whole).mean_loss
    losses = {
        "with zeroed inputs": arms.run(scale_inputs(arms.recipe, 0.0)).mean_loss,
        "with permuted labels": arms.run(whole, permuted=True).mean_loss,
    }
    figures = {"as it is": float(real.mean())}
    # A run that is no better than one of both has learned nothing of the inputs.
    parts = [f"{_number(real)} as it is"]
    effects = []
    for name, loss in losses.items():
        figures[name] = float(loss.mean())
        parts.append(f"{_number(loss)} {name}")
        effects.append(gains(loss, real))
    least = min(effects, key=lambda effect: float(effect.mean()))
    # The fault predicts that there is no advantage.
    certainty = {CONFIRMED: REFUTED, REFUTED: CONFIRMED, LIKELY: LIKELY}[
        judge(least, LEAST_VALID_GAIN)
    ]
    figures |= {"advantage": float(least.mean()), "error": standard_error(least)}
    account = f"mean training loss {', '.join(parts)}: an advantage of {_percent(least)}"
    return Outcome(certainty, account, figures)


# Statistics of batch norm.


def _refreshed(finding: Finding, arms: Arms) -> Outcome:
    """Compute the statistics of batch norm from training data: drifted ones cost loss."""
    if arms.result is None:
        return _not_run("there is no run yet")
    train_state = arms.result.train_state
    if not jax.tree.leaves(train_state.state):
        return _not_run("the network has no statistics")
    weights = refresh_statistics(
        train_state.key,
        arms.recipe,
        train_state,
        arms.data,
        batch_size=arms.task.batch_size,
    )
    own = evaluate(arms.recipe, train_state, arms.data)[LOSS]
    fresh = evaluate(arms.recipe, weights, arms.data)[LOSS]
    return _compare(
        "loss on the training data in evaluation mode",
        np.asarray(own)[None],
        {"with refreshed statistics": np.asarray(fresh)[None]},
        LEAST_GAIN,
    )


# Regularization.


def _stronger(finding: Finding, arms: Arms) -> Outcome:
    """Add weight decay: an overfitted run has a lower validation loss with it."""
    if arms.task.valid is None:
        return _not_run("overfitting needs valid=")
    control = arms.run(shrink(arms.recipe, 0.0))
    steps = control.losses.shape[1]
    treated = {}
    for decay in DECAYS:
        name = f"with decay by {decay:g} in all"
        treated[name] = arms.run(shrink(arms.recipe, min(1.0, decay / steps))).valid_loss
    quantity = "loss on the validation data at the end"
    return _compare(quantity, control.valid_loss, treated, LEAST_VALID_GAIN)


def _weaker(finding: Finding, arms: Arms) -> Outcome:
    """Weaken the regularization: one that dominates keeps the training loss high."""
    control = weaken(arms.recipe, 1.0)
    if control is None:
        return _not_run("the recipe has no regularization to weaken")
    treated = {}
    for factor in WEAKER:
        name = f"with {factor:g} times the regularization"
        recipe = weaken(arms.recipe, factor)
        assert recipe is not None  # it has the structure of the control
        treated[name] = arms.run(recipe).train_loss
    quantity = "loss on the training data at the end"
    return _compare(quantity, arms.run(control).train_loss, treated, LEAST_GAIN)


def _underfit(finding: Finding, arms: Arms) -> Outcome:
    """Weaken the regularization; a network that is too small is not refuted by it."""
    outcome = _weaker(finding, arms)
    if outcome.certainty == REFUTED:
        account = f"{outcome.account}; capacity, rate or length remain as causes"
        return Outcome(LIKELY, account, outcome.figures)
    return outcome


# Classes.


def _balanced(finding: Finding, arms: Arms) -> Outcome:
    """Weigh classes by their counts: an imbalance that costs rare classes their recall."""
    if not arms.classes:
        return _not_run("the targets are not classes")
    weights = np.asarray(data_room.class_weights(arms.data[1], classes=arms.classes))
    plain = arms.run(weigh_classes(arms.recipe, np.ones_like(weights)))
    balanced = arms.run(weigh_classes(arms.recipe, weights))
    # Classes without an example have no recall.
    before = np.nanmean(plain.recalls, 1)
    after = np.nanmean(balanced.recalls, 1)
    rise = after - before
    account = (
        f"mean recall of the classes on the {arms.figure_of_test} {_number(before)} as it is, "
        f"{_number(after)} with balanced weights"
    )
    figures = {
        "as it is": float(before.mean()),
        "with balanced weights": float(after.mean()),
        "gain": float(rise.mean()),
        "error": standard_error(rise),
    }
    return Outcome(judge(rise, LEAST_RECALL), account, figures)


# Initialization.


def _rescaled(finding: Finding, arms: Arms) -> Outcome:
    """Rescale the initial kernels: a bad scale of them costs steps."""
    control = arms.run(arms.recipe, rescaled=False)
    treated = {"with kernels rescaled by LSUV": arms.run(arms.recipe, rescaled=True).mean_loss}
    return _compare(
        "mean training loss",
        control.mean_loss,
        treated,
        LEAST_AREA_GAIN,
        scale=control.losses[:, 0],
    )


def _vanishing(finding: Finding, arms: Arms) -> Outcome:
    """Rescale the initial kernels: small gradients are harmless if it gains nothing."""
    outcome = _rescaled(finding, arms)
    return _unless_it_learns(outcome, arms)


# Comparison.


def _compare(
    quantity: str,
    control: np.ndarray,
    treated: Mapping[str, np.ndarray],
    least: float,
    scale: np.ndarray | None = None,
) -> Outcome:
    """Compare losses (keys,) of a control with those of treatments, of which the best counts.

    Args:
        quantity: Name of the loss.
        control: Its values without a treatment, (keys,).
        treated: Its values by treatment.
        least: The least gain that counts.
        scale: As for `gains`.
    """
    effects = {name: gains(control, losses, scale) for name, losses in treated.items()}
    best = max(effects, key=lambda name: float(effects[name].mean()))
    figures = {"as it is": float(control.mean())}
    figures |= {name: float(losses.mean()) for name, losses in treated.items()}
    figures |= {"gain": float(effects[best].mean()), "error": standard_error(effects[best])}
    account = (
        f"{quantity} {_number(control)} as it is, {_number(treated[best])} {best}: "
        f"a gain of {_percent(effects[best])}"
    )
    return Outcome(judge(effects[best], least), account, figures)


def _unless_it_learns(outcome: Outcome, arms: Arms) -> Outcome:
    """Return the outcome, where only a run that learns refutes: its gradients do no harm."""
    control = arms.run(arms.recipe, rescaled=False)
    falls = gains(control.losses[:, 0], control.tail_loss)
    if outcome.certainty == REFUTED and judge(falls, LEARNED) != CONFIRMED:
        return Outcome(LIKELY, f"{outcome.account}; neither run learns", outcome.figures)
    return outcome


def _number(values: np.ndarray) -> str:
    return f"{values.mean():.4g}"


def _percent(effects: np.ndarray) -> str:
    text = f"{100 * effects.mean():.0f} %"
    if len(effects) > 1:
        text += f" (standard error {100 * standard_error(effects):.0f} %, {len(effects)} keys)"
    return text


Experiment = Callable[[Finding, Arms], Outcome]

# Rules without an entry have no experiment that is cheap.
EXPERIMENTS: dict[str, Experiment] = {
    "P03": _balanced,
    "P10": _rescaled,
    "P11": _rescaled,
    "P14": _ignored_inputs,
    "T01": _replayed,
    "T02": _exploding,
    "T03": _vanishing,
    "T04": _lower_rate,
    "T05": _raise_rate,
    "T08": _late_tenth,
    "T10": _rescaled,
    "T12": _later_drop,
    "T13": _ignored_inputs,
    "T15": _weaker,
    "T16": _refreshed,
    "E01": _stronger,
    "E02": _underfit,
    "E09": _balanced,
}
