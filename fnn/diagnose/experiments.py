"""Experiments that confirm or refute a finding, one for each rule that has one.

Each is a function of a finding and of the arms of the examined run. It compares a treatment, which
removes the supposed fault, with a control. A fault that is real shows by a gain.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fnn import data as data_room
from fnn.diagnose.activation_rules import without_noise
from fnn.diagnose.arms import Arms, gains, judge, standard_error
from fnn.diagnose.evidence import baselines_of, spread_rows
from fnn.diagnose.findings import CONFIRMED, LIKELY, REFUTED, Finding
from fnn.diagnose.localize import localize
from fnn.diagnose.outcomes import (
    LEAST_GAIN,
    LEAST_VALID_GAIN,
    Outcome,
    compare,
    compare_scores,
    not_run,
    number_text,
    percent_text,
)
from fnn.diagnose.rate_experiments import (
    LEAST_SCORE,
    clipped,
    dead_units,
    late_tenth,
    later_drop,
    longer,
    lower_rate,
    opposite_loss,
    opposite_sign,
    raise_rate,
)
from fnn.diagnose.start_experiments import exploding, rescaled, smaller_head, symmetric
from fnn.diagnose.treatments import scale_inputs, shrink, weaken, weigh_classes
from fnn.ensemble import refresh_statistics
from fnn.train import evaluate
from fnn.train.figures import LOSS
from fnn.train.recipe import Recipe

LEAST_RECALL = 0.05  # rise of the mean recall of classes that counts
DECAYS = (0.3, 1.0, 3.0)  # shares of the kernels that all steps together subtract
WEAKER = (0.1, 0.0)  # factors of the regularization


# Replay.


def _replayed(finding: Finding, arms: Arms) -> Outcome:
    """Compute the step that was not finite again, layer by layer, forward then backward."""
    before = arms.before_failure
    if before is None:
        return not_run("all steps of the run are finite")
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
    parts = [f"{number_text(real)} as it is"]
    effects = []
    for name, loss in losses.items():
        figures[name] = float(loss.mean())
        parts.append(f"{number_text(loss)} {name}")
        effects.append(gains(loss, real))
    least = min(effects, key=lambda effect: float(effect.mean()))
    # The fault predicts that there is no advantage.
    opposite = {CONFIRMED: REFUTED, REFUTED: CONFIRMED, LIKELY: LIKELY}
    certainty = opposite[judge(least, LEAST_VALID_GAIN)]
    figures |= {"advantage": float(least.mean()), "error": standard_error(least)}
    account = f"mean training loss {', '.join(parts)}: an advantage of {percent_text(least)}"
    return Outcome(certainty, account, figures)


# Statistics of batch norm.


def _refreshed(finding: Finding, arms: Arms) -> Outcome:
    """Compute the statistics of batch norm from training data: drifted ones cost loss."""
    return _compare_statistics(
        arms,
        None,
        arms.recipe,
        "with refreshed statistics",
    )


def _noiseless(finding: Finding, arms: Arms) -> Outcome:
    """Compute the statistics of batch norm without dropout: those with it are of another scale."""
    return _compare_statistics(
        arms,
        arms.recipe,
        without_noise(arms.recipe),
        "with statistics of passes without dropout",
    )


def _compare_statistics(
    arms: Arms,
    control: Recipe | None,
    treated: Recipe,
    treatment: str,
) -> Outcome:
    """Compare the loss of the trained network with statistics that recipes compute.

    Args:
        arms: Of the examined run.
        control: Computes the statistics of the control; None for those of the run.
        treated: Computes those of the treatment.
        treatment: Name of the treatment.
    """
    if arms.result is None:
        return not_run("there is no complete run")
    train_state = arms.result.train_state
    if not jax.tree.leaves(train_state.state):
        return not_run("the network has no statistics")
    losses = []
    for recipe in (control, treated):
        weights: Any = train_state
        if recipe is not None:
            weights = refresh_statistics(
                arms.key,
                recipe,
                train_state,
                arms.data,
                batch_size=arms.task.batch_size,
            )
        losses.append(np.asarray(evaluate(arms.recipe, weights, arms.data)[LOSS])[None])
    return compare(
        "loss on the training data in evaluation mode",
        losses[0],
        {treatment: losses[1]},
        LEAST_GAIN,
    )


# Regularization.


def _stronger(finding: Finding, arms: Arms) -> Outcome:
    """Add weight decay: an overfitted run has a lower validation loss with it."""
    if arms.task.valid is None:
        return not_run("overfitting needs valid=")
    control = arms.run(shrink(arms.recipe, 0.0))
    steps = control.losses.shape[1]
    treated = {}
    for decay in DECAYS:
        name = f"with decay by {decay:g} in all"
        treated[name] = arms.run(shrink(arms.recipe, min(1.0, decay / steps))).valid_loss
    quantity = "loss on the validation data at the end"
    return compare(
        quantity,
        control.valid_loss,
        treated,
        LEAST_VALID_GAIN,
    )


def _weaker(finding: Finding, arms: Arms) -> Outcome:
    """Weaken the regularization: one that dominates keeps the training loss high."""
    control = weaken(arms.recipe, 1.0)
    if control is None:
        return not_run("the recipe has no regularization to weaken")
    treated = {}
    for factor in WEAKER:
        name = f"with {factor:g} times the regularization"
        recipe = weaken(arms.recipe, factor)
        assert recipe is not None  # it has the structure of the control
        treated[name] = arms.run(recipe).train_loss
    quantity = "loss on the training data at the end"
    before = arms.run(control).train_loss
    return compare(
        quantity,
        before,
        treated,
        LEAST_GAIN,
    )


def _underfit(finding: Finding, arms: Arms) -> Outcome:
    """Weaken the regularization; a network that is too small is not refuted by it."""
    outcome = _weaker(finding, arms)
    if outcome.certainty == REFUTED:
        account = f"{outcome.account}; capacity, rate or length remain as causes"
        return Outcome(LIKELY, account, outcome.figures)
    return outcome


# Baselines.


def _beyond_baseline(finding: Finding, arms: Arms) -> Outcome:
    """Train from several keys: a network with a fault stays below a baseline from each."""
    scores = arms.run(scale_inputs(arms.recipe, 1.0)).scores
    classes = arms.classes
    if not np.isfinite(scores).all() or not hasattr(arms.data[0], "dtype"):
        return not_run("the score of these targets is not known")
    baselines = baselines_of(
        arms.data,
        arms.task.valid,
        spread_rows(arms.data),
        classes,
    )
    constant = 0.0
    if classes:
        _, counts = np.unique(np.asarray(arms.data[1]), return_counts=True)
        constant = counts.max() / counts.sum()
    # A linear predictor must be clearly better; a constant knows nothing.
    leads = {"a constant": constant - scores}
    if np.isfinite(baselines.linear):
        leads["a linear predictor"] = baselines.linear - LEAST_SCORE - scores
    best = max(leads, key=lambda name: float(leads[name].mean()))
    score = constant if best == "a constant" else baselines.linear
    account = (
        f"score on the {arms.figure_of_test} {number_text(scores)} of {len(scores)} runs, "
        f"{score:.4g} of {best}"
    )
    figures = {
        "as it is": float(scores.mean()),
        best: float(score),
        "gain": float(leads[best].mean()),
        "error": standard_error(scores),
    }
    return Outcome(judge(leads[best], 0.0), account, figures)


# Classes.


def _balanced(finding: Finding, arms: Arms) -> Outcome:
    """Weigh classes by their counts: an imbalance that costs rare classes their recall."""
    if not arms.classes:
        return not_run("the targets are not classes")
    weights = np.asarray(data_room.class_weights(arms.data[1], classes=arms.classes))
    plain = arms.run(weigh_classes(arms.recipe, np.ones_like(weights)))
    balanced = arms.run(weigh_classes(arms.recipe, weights))
    # Classes without an example have no recall.
    return compare_scores(
        f"mean recall of the classes on the {arms.figure_of_test}",
        np.nanmean(plain.recalls, 1),
        "with balanced weights",
        np.nanmean(balanced.recalls, 1),
        LEAST_RECALL,
    )


Experiment = Callable[[Finding, Arms], Outcome]

# Findings of other rules have no experiment that is cheap, and neither has one of these names.
OTHERS = frozenset({"label_order", "small_batches"})
# Rules that share an identifier with another one.
BY_NAME: dict[str, Experiment] = {"flipped_sign": opposite_loss, "loss_sign": opposite_loss}
EXPERIMENTS: dict[str, Experiment] = {
    "P03": _balanced,
    "P04": smaller_head,
    "P10": symmetric,
    "P11": rescaled,
    "P14": _ignored_inputs,
    "P16": _noiseless,
    "T01": _replayed,
    "T02": exploding,
    "T03": rescaled,
    "T04": lower_rate,
    "T05": raise_rate,
    "T06": dead_units,
    "T07": rescaled,
    "T08": late_tenth,
    "T09": clipped,
    "T10": rescaled,
    "T11": smaller_head,
    "T12": later_drop,
    "T13": _ignored_inputs,
    "T14": opposite_sign,
    "T15": _weaker,
    "T16": _refreshed,
    "E01": _stronger,
    "E02": _underfit,
    "E03": longer,
    "E09": _balanced,
    "E10": _beyond_baseline,
}
