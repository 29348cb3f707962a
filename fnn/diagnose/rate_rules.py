"""Rules of the size of the learning rate: too high, too low."""

import numpy as np

from fnn.diagnose import levels
from fnn.diagnose.curves import find_spikes, largest_rise
from fnn.diagnose.evidence import Evidence
from fnn.diagnose.findings import ERROR, WARNING, Finding, Rule
from fnn.diagnose.observation import Observation
from fnn.diagnose.thresholds import Thresholds
from fnn.train.figures import LOSS

RATE_TOO_HIGH = Rule(
    "T04",
    "rate_too_high",
    "Ben Braiek & Khomh 2023 (TheDeepChecker); step lengths of Schneider et al. 2021 (Cockpit)",
    ("the learning rate is too high", "there is no warm-up", "inputs are not normalized"),
    ("divide the rate by 3 to 10", "begin with a warm-up", "find a rate with search.rate_test"),
    "train again at a tenth of the rate: the loss must fall further",
)
RATE_TOO_LOW = Rule(
    "T05",
    "rate_too_low",
    "Ben Braiek & Khomh 2023 (TheDeepChecker); step lengths of Schneider et al. 2021 (Cockpit)",
    ("the learning rate is too low", "eps of the optimizer is too large"),
    ("multiply the rate by 3 to 10, and repeat", "find a rate with search.rate_test"),
    "train again at ten times the rate: the loss must fall faster",
)
UNITS_DIE = "units die"  # a sign of updates that are too long


def rate_too_high(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T04: updates overshoot while the loss stays high, or the loss diverges."""
    end_level = levels.train_level(evidence)
    last = _peak_before_failure(evidence)
    start_level = levels.level(evidence, evidence.start)
    steps = len(evidence.history[LOSS])
    # Over the whole run where it was recorded, otherwise at its end.
    recorded = levels.run_update_ratio(evidence)
    ratio = recorded if np.isfinite(recorded) else levels.update_ratio(evidence, evidence.end)
    overshoots = _overshoots(evidence, evidence.end, limits)
    overshoots_first = _overshoots_at_peak(evidence, limits)
    measured = {
        "level": end_level,
        "level at start": start_level,
        "update ratio": ratio,
        "best multiple": levels.best_multiple(evidence.end.line),
        "best multiple at start": levels.best_multiple(evidence.start.line),
        "share of the largest rate at start": levels.rate_share(evidence, evidence.start),
    }
    # A loss that begins far above chance is no divergence.
    # The state before a non-finite step is not that of the end of training.
    is_cut = evidence.is_cut
    reached = last if is_cut else min(end_level, last)
    diverges = reached > limits.divergence * max(1.0, start_level)
    signs = _signs_of_instability(evidence, limits)
    # Where most units of a layer have died, a fair loss is a failure too.
    least_level = limits.fair_level if UNITS_DIE in signs else limits.poor_level
    is_poor = not end_level <= least_level
    is_long = overshoots or overshoots_first or ratio > limits.update_ratio_high
    # A loss that falls first and rises to where it began is no fault of the data.
    is_long |= _falls_and_rises(evidence, limits)
    if diverges:
        title = f"the training loss diverged to {reached:.3g} times that of guessing"
        threshold = f"loss > {limits.divergence} times that of guessing and the first loss"
        return [
            RATE_TOO_HIGH.finding(
                ERROR,
                title,
                measured,
                threshold,
                steps=(0, steps - 1),
            )
        ]
    if is_poor and is_long and not is_cut:
        title = f"updates overshoot, and the loss stays at {end_level:.2g} times that of guessing"
        threshold = (
            f"loss > {least_level} times that of guessing, and best multiple of an update <= "
            f"{limits.overshoot_fraction}, or updates > {limits.update_ratio_high} of the weights"
        )
        return [
            RATE_TOO_HIGH.finding(
                ERROR,
                title,
                measured,
                threshold,
                steps=(0, steps - 1),
            )
        ]
    if overshoots and end_level > limits.low_level and not is_cut:
        title = (
            "updates at the end overshoot, and the loss stays at "
            f"{end_level:.2g} times that of guessing"
        )
        threshold = f"best multiple of an update <= {limits.overshoot_fraction}"
        return [
            RATE_TOO_HIGH.finding(
                WARNING,
                title,
                measured,
                threshold,
            )
        ]
    if len(signs) >= 2 and not is_cut:
        title = f"training is unstable: {' and '.join(signs)}"
        threshold = "two signs of instability"
        return [
            RATE_TOO_HIGH.finding(
                WARNING,
                title,
                measured,
                threshold,
            )
        ]
    return []


def _signs_of_instability(
    evidence: Evidence,
    limits: Thresholds,
) -> list[str]:
    """Return the signs that updates were too long at times, of which a run has recovered."""
    chance = levels.chance(evidence)
    signs = []
    losses = evidence.history[LOSS]
    spikes = find_spikes(losses, limits.spike_ratio, limits.spike_level * chance)
    if spikes:
        signs.append(f"the loss jumps at step {spikes[0]}")
    if largest_rise(levels.windows(evidence).mean / chance) > limits.spike_level:
        signs.append("the loss rises for a time")
    validated = levels.valid_losses(evidence) / chance
    if len(validated) >= 4 and np.isfinite(validated).all():
        before = np.minimum.accumulate(validated)
        is_high = validated > before + limits.spike_level
        # A rise that lasts is overfitting.
        if is_high.sum() >= 2 and validated[-1] < before[-1] + limits.spike_level:
            signs.append(f"the validation loss is high after {is_high.sum()} epochs")
    died = np.asarray(evidence.end.dead_share, float) - np.asarray(evidence.start.dead_share, float)
    if np.nan_to_num(died).max(initial=0) > limits.dead_warning:
        signs.append(UNITS_DIE)
    return signs


def _peak_before_failure(evidence: Evidence) -> float:
    """Return the level of the last losses; before a non-finite step the largest of the last 10."""
    if not evidence.is_cut:
        return levels.last_level(evidence)
    last = evidence.history[LOSS][-10:]
    finite = last[np.isfinite(last)]
    return float(finite.max()) / levels.chance(evidence) if finite.size else np.nan


def _overshoots(
    evidence: Evidence,
    observation: Observation,
    limits: Thresholds,
) -> bool:
    """Return whether the next updates raise the loss of their own batches."""
    multiple = levels.best_multiple(observation.line)
    change = levels.change_after_update(observation.line)
    # On a flat line, any multiple may be the best one: the update must do harm as well.
    return multiple <= limits.overshoot_fraction and change > 0.1


def _overshoots_at_peak(
    evidence: Evidence,
    limits: Thresholds,
) -> bool:
    """Return whether an update of the largest rate would be too long at the start."""
    share = levels.rate_share(evidence, evidence.start)
    multiple = levels.best_multiple(evidence.start.line)
    if multiple == 0:
        # Of an update downhill even an eighth is too long.
        return bool(evidence.start.slope < 0)
    # A flat loss has no best multiple.
    gain = levels.possible_gain(evidence.start.line)
    return multiple * share <= limits.overshoot_fraction and gain > 1e-3


def _falls_and_rises(
    evidence: Evidence,
    limits: Thresholds,
) -> bool:
    mean = levels.windows(evidence).mean / levels.chance(evidence)
    if len(mean) < 4 or not np.isfinite(mean).all():
        return False
    lowest = int(mean.argmin())
    # Without a fall before, a rise has other causes, such as the sign of the loss.
    fall = mean[0] - mean[lowest]
    rise = mean[-1] - mean[lowest]
    return lowest < len(mean) - 1 and min(fall, rise) > limits.rise_level


def rate_too_low(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T05: multiples of the updates of the largest rate would lower the loss far more."""
    end_level = levels.train_level(evidence)
    first = _undershoot(evidence, evidence.start)
    last = _undershoot(evidence, evidence.end)
    # The smaller of both ends decides: a rate that suits one of them is not too low.
    multiples = [one for one in (first, last) if np.isfinite(one)]
    recorded = levels.run_update_ratio(evidence)
    is_tiny = recorded < limits.update_ratio_low
    if not end_level > limits.fair_level or not (multiples or is_tiny):
        return []
    least = min(multiples, default=np.inf)
    if least < limits.undershoot_fraction:
        return []
    ratio = recorded if np.isfinite(recorded) else levels.update_ratio(evidence, evidence.end)
    measured = {
        "level": end_level,
        "best multiple": least,
        "update ratio": ratio,
    }
    # A run that has learned a part is slow, but has not failed.
    is_clear = end_level > limits.poor_level and least >= 4 * limits.undershoot_fraction
    found = f"updates are {ratio:.1g} of the weights"
    if np.isfinite(least):
        found = f"updates could be {least:.3g} times as long"
    title = f"{found}; the loss is at {end_level:.2g} times that of guessing"
    threshold = (
        f"best multiple of an update at the largest rate >= {limits.undershoot_fraction}, "
        f"loss > {limits.fair_level} times that of guessing"
    )
    return [
        RATE_TOO_LOW.finding(
            ERROR if is_clear else WARNING,
            title,
            measured,
            threshold,
        )
    ]


def _undershoot(
    evidence: Evidence,
    observation: Observation,
) -> float:
    """Return the best multiple of an update at the largest rate; NaN if it is not known."""
    share = levels.rate_share(evidence, observation)
    # A flat loss has no best multiple, and no update at a rate of 0 has one.
    if share < 1e-2 or levels.possible_gain(observation.other_line) < 0.002:
        return np.nan
    return levels.best_multiple(observation.other_line) * share


RULES = (
    rate_too_high,
    rate_too_low,
)
