"""Rules of the loss over time."""

import numpy as np

from fnn.diagnose import levels
from fnn.diagnose.curves import find_spikes, smooth
from fnn.diagnose.evidence import VALUES, Evidence
from fnn.diagnose.findings import ERROR, INFO, WARNING, Finding, Rule
from fnn.diagnose.thresholds import Thresholds
from fnn.train.figures import LOSS, RATE

SPIKE = Rule(
    "T09",
    "loss_spikes",
    "Lightning (SpikeDetection)",
    ("the learning rate is too high", "there is no warm-up", "eps of the optimizer is too small"),
    ("begin with a warm-up", "clip gradients with optim.clip_by_global_norm", "lower the rate"),
    "train again with clipped gradients: there must be no spike",
)
PLATEAU = Rule(
    "T10",
    "plateau_at_start",
    "CS231n, shapes of learning curves",
    ("the initialization is too small", "units are symmetric at the start"),
    ("initialize by nn.he_normal or nn.lsuv", "normalize activations with nn.batch_norm"),
    "train again with nn.lsuv: the plateau must be gone",
)
HOCKEY_STICK = Rule(
    "T11",
    "hockey_stick",
    "Karpathy 2019, A recipe for training neural networks",
    ("the last layer is initialized too large", "inputs are not normalized"),
    ("initialize the last layer with zeros or a tenth of the size", "set its bias to the prior"),
    "train again with a last layer of a tenth of the size: the loss must begin at chance",
)
NO_PROGRESS = Rule(
    "T13",
    "no_progress",
    "Ben Braiek & Khomh 2023 (TheDeepChecker)",
    ("labels do not belong to the inputs", "the gradient does not reach the parameters"),
    ("check pairs of inputs and labels", "overfit 16 examples with diagnose.preflight"),
    "train on zeroed inputs: if the loss is the same, the network does not use its inputs",
)
LOSS_RISES = Rule(
    "T14",
    "train_loss_rises",
    "Tuning Playbook, Godbole et al. 2023",
    ("the sign of the loss or of the update is wrong", "the learning rate is too high"),
    ("check the sign of the loss", "divide the rate by 10"),
    "train with negated updates, and at a tenth of the rate: one of both must lower the loss",
)
TRAIN_LONGER = Rule(
    "E03",
    "train_longer",
    "Tuning Playbook, Godbole et al. 2023",
    ("the run ended while the validation loss still fell",),
    ("train for more epochs, and stretch the schedule", "use a higher rate"),
    "train for twice the epochs: the validation loss must be lower",
)
TRAINED_TOO_LONG = Rule(
    "E04",
    "trained_too_long",
    "Tuning Playbook, Godbole et al. 2023",
    ("the network overfits after its best epoch",),
    ("stop early, by train.early_stopping", "regularize or augment more"),
    "train for a quarter of the epochs: the validation loss must be no higher",
)


def spikes(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T09: the loss jumps far above its recent median."""
    losses = evidence.history[LOSS]
    least = limits.spike_level * levels.chance(evidence)
    # Near 0 any ratio is reached by noise, so a jump needs a least height as well.
    found = find_spikes(losses, limits.spike_ratio, least)
    if not found:
        return []
    step = found[0]
    peak = float(np.max(losses[step : step + 3])) / levels.chance(evidence)
    measured = {"spikes": len(found), "height": peak}
    # The first jump is named, as later ones may be its consequences.
    title = f"the loss jumps to {peak:.2g} times that of guessing at step {step}"
    if len(found) > 1:
        title += f", one of {len(found)} jumps"
    threshold = f"mean of 3 steps > {limits.spike_ratio} x the median of 20 before"
    steps = (step, found[-1] + 2)
    # One jump that the run has recovered from is no fault.
    is_single = len(found) == 1 and levels.train_level(evidence) < limits.low_level
    severity = INFO if is_single else WARNING
    return [
        SPIKE.finding(
            severity,
            title,
            measured,
            threshold,
            steps=steps,
        )
    ]


def plateau(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T10: the loss stays where it began, then falls."""
    losses = evidence.history[LOSS]
    count = max(int(limits.plateau_share * len(losses)), limits.plateau_steps)
    # The fall after the plateau needs room within the run.
    if len(losses) < 4 * count:
        return []
    width = max(3, count // 3)
    smoothed = smooth(losses, width)
    first = losses[:width].mean()
    change = np.abs(smoothed[width - 1 : count] - first).max() / abs(first)
    fall = 1 - smoothed[-1] / first
    # While the rate is warmed up, a level loss is meant.
    rate = evidence.history.get(RATE, np.ones(len(losses)))
    is_warm = np.mean(rate[:count]) > 0.5 * np.max(rate)
    if not (change < limits.plateau_change and fall > limits.plateau_fall and is_warm):
        return []
    is_level = np.abs(smoothed - first) < limits.plateau_change * abs(first)
    last = int(np.argmin(is_level[width:])) + width
    measured = {
        "steps": last,
        "change": change,
        "fall afterwards": fall,
    }
    title = f"the loss stays at {first:.3g} for {last} steps before it falls"
    threshold = (
        f"change < {limits.plateau_change:.0%} in {limits.plateau_share:.0%} of the run, then a "
        f"fall > {limits.plateau_fall:.0%}"
    )
    return [
        PLATEAU.finding(
            WARNING,
            title,
            measured,
            threshold,
            steps=(0, last),
        )
    ]


def hockey_stick(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T11: most of the fall of the loss is that from a bad initialization to chance."""
    losses = evidence.history[LOSS]
    # Of unbalanced classes, equal logits have a higher loss than the best constant.
    even = np.nan_to_num(evidence.task.probes.even) / levels.chance(evidence)
    start_level = levels.level(evidence, evidence.start) / max(1.0, even)
    excess = limits.hockey_excess
    # A squared error begins above chance by the variance of the outputs, which is no fault.
    if evidence.task.kind == VALUES:
        excess *= limits.gap_factor
    if not start_level > 1 + excess or len(losses) < limits.min_steps:
        return []
    # A twentieth of the run, since single losses are noisy.
    few = max(3, len(losses) // 20)
    first = float(evidence.start.losses.mean())
    lowest = smooth(losses, few)[few - 1 :].min()
    # Against the lowest loss and not the last one, which may have risen again.
    share = (first - losses[few : 2 * few].mean()) / max(first - lowest, 1e-12)
    if share < 0.5:
        return []
    measured = {
        "level at start": start_level,
        "share of the fall": share,
        "steps": few,
    }
    title = (
        f"the loss begins at {start_level:.2g} times that of guessing, and {share:.0%} of its fall "
        f"is in the first {2 * few} steps"
    )
    threshold = f"first loss > {1 + excess} times that of guessing"
    return [
        HOCKEY_STICK.finding(
            WARNING,
            title,
            measured,
            threshold,
            steps=(0, 2 * few),
        )
    ]


def no_progress(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T13: the training loss is not below chance at the end."""
    losses = evidence.history[LOSS]
    if len(losses) < max(limits.min_steps, evidence.epoch_length):
        return []
    end_level = levels.train_level(evidence)
    last = levels.last_level(evidence)
    # Dropout and augmentation raise the recorded loss: progress in one of both modes is progress.
    if min(end_level, last) < 1 - limits.progress or not np.isfinite(end_level):
        return []
    measured = {"level": end_level, "last steps": last}
    title = f"the training loss is {end_level:.3g} times that of the best constant output"
    threshold = f"loss > {1 - limits.progress} times that of guessing"
    return [
        NO_PROGRESS.finding(
            ERROR,
            title,
            measured,
            threshold,
            steps=(0, len(losses) - 1),
        )
    ]


def loss_rises(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T14: the training loss rises over several windows."""
    mean, error, ends = levels.windows(evidence)
    if len(mean) < 4 or not np.isfinite(mean).all():
        return []
    lowest = int(mean.argmin())
    # The lowest of the last three windows, so that one bad window is no rise.
    rise = mean[-3:].min() - mean[lowest]
    noise = np.nanmax(error[[lowest, -3, -2, -1]])
    scale = levels.chance(evidence)
    # A rise that has just begun may be noise, or end with a lower rate.
    is_early = lowest < 2 * len(mean) // 3
    if not (is_early and rise > limits.significance * noise and rise > 0.1 * scale):
        return []
    measured = {"rise": rise / scale, "lowest": mean[lowest] / scale}
    title = (
        f"the training loss rises by {rise / scale:.2g} times that of guessing after step "
        f"{ends[lowest]}"
    )
    threshold = f"rise > {limits.significance} standard errors and 0.1 times that of guessing"
    steps = (int(ends[lowest]), int(ends[-1]) - 1)
    return [
        LOSS_RISES.finding(
            ERROR,
            title,
            measured,
            threshold,
            steps=steps,
        )
    ]


def train_longer(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """E03: the best epoch is late, and the validation loss was still falling."""
    losses = levels.valid_losses(evidence)
    if len(losses) < 2 or not np.isfinite(losses).all() or losses.min() <= 0:
        return []
    epochs = len(losses)
    best = int(losses.argmin())
    # At least the last epoch is late, and the one before is compared with it.
    late = max(1, min(int((1 - limits.late_share) * epochs), epochs - 1))
    fall = 1 - losses[best] / losses[late - 1]
    if best < late or fall < limits.progress:
        return []
    # Half-way through, the end of the run is no matter of fine tuning.
    level = losses[best] / levels.chance(evidence)
    is_poor = level > limits.fair_level and fall > 2 * limits.progress
    measured = {
        "best epoch": best + 1,
        "epochs": epochs,
        "fall": fall,
        "level": level,
    }
    last = "epoch" if epochs - late == 1 else f"{epochs - late} epochs"
    title = f"the validation loss still fell by {fall:.0%} in the last {last}"
    threshold = f"best epoch in the last {limits.late_share:.0%} of the run"
    severity = WARNING if is_poor else INFO
    return [
        TRAIN_LONGER.finding(
            severity,
            title,
            measured,
            threshold,
        )
    ]


def trained_too_long(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """E04: the best epoch is early, and the validation loss is higher at the end."""
    losses = levels.valid_losses(evidence)
    # Of fewer epochs, the first tenth is less than one.
    if len(losses) < 8 or not np.isfinite(losses).all():
        return []
    best = int(losses.argmin())
    # In units of chance: relative to a loss near 0 any rise is large.
    rise = (losses[-3:].min() - losses[best]) / levels.chance(evidence)
    if best >= limits.early_share * len(losses) or rise < limits.gap_level / 2:
        return []
    measured = {
        "best epoch": best + 1,
        "epochs": len(losses),
        "rise": rise,
    }
    title = f"the validation loss is lowest after epoch {best + 1} of {len(losses)}"
    threshold = f"best epoch in the first {limits.early_share:.0%} of the run"
    return [
        TRAINED_TOO_LONG.finding(
            INFO,
            title,
            measured,
            threshold,
        )
    ]


RULES = (
    spikes,
    plateau,
    hockey_stick,
    no_progress,
    loss_rises,
    train_longer,
    trained_too_long,
)
