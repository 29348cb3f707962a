"""Rules of the decay of the learning rate: never decayed, decayed too early."""

import numpy as np

from fnn.diagnose import levels
from fnn.diagnose.curves import find_cut, has_fallen, relative_fall
from fnn.diagnose.evidence import Evidence
from fnn.diagnose.findings import WARNING, Finding, Rule
from fnn.diagnose.thresholds import Thresholds
from fnn.train.figures import LOSS, RATE

OSCILLATION = Rule(
    "T08",
    "loss_oscillates",
    "Ben Braiek & Khomh 2023 (TheDeepChecker); Zhang et al. 2021 (AutoTrainer)",
    ("the learning rate is never decayed", "the batch is too small", "the momentum is too high"),
    ("decay the rate, as by optim.cosine", "use larger batches", "lower the rate"),
    "continue at a tenth of the rate: the loss must fall within an epoch",
)
CUT_TOO_EARLY = Rule(
    "T12",
    "rate_cut_too_early",
    "CS231n, shapes of learning curves",
    ("the rate is decayed while the loss still falls", "the schedule is shorter than the run"),
    ("decay the rate later", "give the schedule the number of steps of the run"),
    "resume from before the cut without it: the loss must fall below that of this run",
)


def oscillation(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T08: the loss stays at a level above 0, as noisy as high, at a rate that is not decayed."""
    losses = evidence.history[LOSS]
    # The last two fifths must have enough steps for a deviation.
    if len(losses) < 5 * limits.min_steps:
        return []
    tail = losses[-2 * len(losses) // 5 :]
    level = tail.mean() / levels.chance(evidence)
    noise = tail.std() / abs(tail.mean()) if tail.mean() else 0.0
    # A loss that still falls needs no lower rate yet.
    is_level = not has_fallen(tail, 0.1)
    is_constant = levels.rate_share(evidence, evidence.end) > 0.5
    # On other batches, since an update lowers the loss of its own even where it only fits noise.
    harm = levels.change_after_update(evidence.end.other_line)
    if not (is_level and is_constant and limits.low_level < level < limits.divergence):
        return []
    if harm <= 0.02 or noise < limits.noise_ratio:
        return []
    measured = {
        "level": level,
        "noise": noise,
        "change by an update": harm,
    }
    first = len(losses) - len(tail)
    title = (
        f"the loss stays at {level:.2g} times that of guessing for the last {len(tail)} steps, "
        "and each update raises that of other batches"
    )
    threshold = f"relative deviation of the loss > {limits.noise_ratio} at a constant level"
    steps = (first, len(losses) - 1)
    return [
        OSCILLATION.finding(
            WARNING,
            title,
            measured,
            threshold,
            steps=steps,
        )
    ]


def cut_too_early(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T12: the rate is cut while the loss falls, and the loss stays there."""
    losses = evidence.history[LOSS]
    rate = np.asarray(evidence.history.get(RATE, np.zeros(0)), float)
    if rate.size:
        # A burst of a few steps is no rate to be cut from.
        rate = np.minimum(rate, np.quantile(rate, 0.95))
    cut = find_cut(rate, limits.cut_share)
    end_level = levels.train_level(evidence)
    if cut is None:
        return []
    rest = len(losses) - cut.step
    # After a very early cut, a lower loss could have been reached than that of a late one.
    least = limits.cut_level if rest < 0.8 * len(losses) else limits.cut_level / 2
    if not end_level > least:
        return []
    window = min(cut.step, max(limits.min_steps, len(losses) // 10), rest // 2)
    if rest < limits.cut_rest * len(losses) or window < limits.min_steps // 2:
        return []
    before = losses[cut.step - window : cut.step]
    # The transient after a cut, where the noise vanishes, is left out.
    after = losses[cut.step + rest // 4 :]
    fall = relative_fall(before)
    # Slopes per step, since the windows before and after differ in length.
    slope_before = fall / window
    slope_after = relative_fall(after) / len(after)
    if fall < limits.cut_fall or slope_after > limits.cut_slope * slope_before:
        return []
    measured = {
        "fall before": fall,
        "slope ratio": slope_after / slope_before,
        "rest": rest / len(losses),
        "level": end_level,
    }
    title = (
        f"the rate falls to {cut.after / cut.before:.2g} of its peak at step {cut.step}, while the "
        f"loss still fell by {fall:.0%} in {window} steps"
    )
    threshold = (
        f"fall before >= {limits.cut_fall:.0%}, slope after < {limits.cut_slope} of that before, "
        f"rest of the run >= {limits.cut_rest:.0%}"
    )
    steps = (cut.step, len(losses) - 1)
    return [
        CUT_TOO_EARLY.finding(
            WARNING,
            title,
            measured,
            threshold,
            steps=steps,
        )
    ]


RULES = (
    oscillation,
    cut_too_early,
)
