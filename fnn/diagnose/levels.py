"""Levels of a run: losses relative to chance, accuracies, and the effect of the next updates."""

import numpy as np

from fnn.diagnose.curves import Windows, split_windows
from fnn.diagnose.evidence import CLASSES, VALUES, Evidence
from fnn.diagnose.observation import Observation
from fnn.diagnose.update_lines import FRACTIONS
from fnn.train.figures import LOSS, RATE, VALID_LOSS


def chance(evidence: Evidence) -> float:
    """Return the loss of the best constant output; that at the start where it is not known."""
    known = evidence.task.probes.chance
    if np.isfinite(known) and known > 0:
        return known
    first = np.abs(evidence.start.losses).mean()
    return float(first) if first > 0 else 1.0


def level(
    evidence: Evidence,
    observation: Observation,
) -> float:
    """Return the training loss of the sample in evaluation mode, relative to chance."""
    return float(observation.losses.mean()) / chance(evidence)


def valid_level(evidence: Evidence) -> float:
    """Return the validation loss at the end, relative to chance; NaN without validation."""
    losses = np.asarray(evidence.end.valid_losses)
    return float(losses.mean()) / chance(evidence) if losses.size else np.nan


def last_level(evidence: Evidence) -> float:
    """Return the mean loss of the last tenth of the steps, relative to chance."""
    losses = evidence.history[LOSS]
    last = losses[-max(1, len(losses) // 10) :]
    return float(last.mean()) / chance(evidence)


def train_level(evidence: Evidence) -> float:
    """Return the level of the training loss at the end, in the mode where it is lower.

    Dropout raises the loss in training mode, wrong running statistics that in evaluation mode.
    """
    both = [level(evidence, evidence.end), last_level(evidence)]
    return float(np.nan_to_num(both, nan=np.inf).min())


def score(
    evidence: Evidence,
    outputs: np.ndarray,
    targets: np.ndarray,
) -> float:
    """Return the accuracy of outputs, or the share of the variance that they explain.

    Args:
        evidence: Its task applies.
        outputs: (n, ...).
        targets: (n, ...).
    """
    if evidence.task.kind == CLASSES:
        return float((outputs.argmax(-1) == targets).mean())
    if evidence.task.kind == VALUES:
        flat = targets.reshape(len(targets), -1)
        error = np.square(outputs.reshape(flat.shape) - flat).mean()
        spread = flat.var(0).mean()
        return float(1 - error / spread) if spread > 0 else np.nan
    return np.nan


def train_score(evidence: Evidence) -> float:
    """Return the accuracy or the explained variance on the sample of training examples."""
    return score(evidence, evidence.end.outputs, evidence.task.targets)


def valid_score(evidence: Evidence) -> float:
    """Return the accuracy or the explained variance on validation; NaN without it."""
    outputs = evidence.end.valid_outputs
    if isinstance(outputs, tuple):
        return np.nan
    return score(evidence, outputs, evidence.task.valid_targets)


def constant_score(evidence: Evidence) -> float:
    """Return the score of the best constant output: share of the largest class, or 0."""
    return float(evidence.task.shares.max()) if evidence.task.kind == CLASSES else 0.0


def windows(evidence: Evidence) -> Windows:
    """Return the means of the training loss over parts of the run."""
    return split_windows(evidence.history[LOSS])


def peak_rate(evidence: Evidence) -> float:
    """Return the largest learning rate of the run; NaN without a rate."""
    rate = evidence.history.get(RATE, np.zeros(0))
    finite = rate[np.isfinite(rate)]
    return float(finite.max()) if finite.size else np.nan


def rate_share(
    evidence: Evidence,
    observation: Observation,
) -> float:
    """Return the next rate relative to the largest one of the run; 1 without a rate."""
    largest = peak_rate(evidence)
    if not np.isfinite(largest) or largest <= 0 or not np.isfinite(observation.rate):
        return 1.0
    return float(observation.rate) / largest


def best_multiple(line: np.ndarray) -> float:
    """Return the multiple of an update at which the mean loss along it is lowest.

    Args:
        line: Loss along several updates, (lines, fractions).
    """
    mean = _mean_line(line)
    # Without any finite loss there is none.
    return float(FRACTIONS[int(mean.argmin())]) if np.isfinite(mean).any() else np.nan


def possible_gain(line: np.ndarray) -> float:
    """Return the largest relative fall of the mean loss along an update.

    Args:
        line: Loss along several updates, (lines, fractions).
    """
    mean = _mean_line(line)
    if not np.isfinite(mean[0]) or mean[0] == 0:
        return 0.0
    return float((mean[0] - mean.min()) / abs(mean[0]))


def _mean_line(line: np.ndarray) -> np.ndarray:
    """Return the mean loss along several updates, infinite beyond an overflow."""
    mean = np.asarray(line, float).mean(0)
    return np.where(np.isfinite(mean), mean, np.inf)


def change_after_update(line: np.ndarray) -> float:
    """Return the relative change of the mean loss by a whole update.

    Args:
        line: Loss along several updates, (lines, fractions).
    """
    mean = np.asarray(line, float).mean(0)
    if not np.isfinite(mean[0]):
        return np.nan
    before, after = mean[0], mean[FRACTIONS.index(1.0)]
    if not np.isfinite(after):
        return np.inf
    return float((after - before) / abs(before)) if before != 0 else 0.0


def instrument(
    evidence: Evidence,
    name: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the measured rows of an instrument, (rows, columns), and the step of each (rows,).

    Args:
        evidence: Of a run. Without this instrument there are no rows.
        name: Such as "dead_share".
    """
    if name not in evidence.columns or name not in evidence.history:
        return np.zeros((0, 0)), np.zeros(0, int)
    rows = np.asarray(evidence.history[name], float)
    is_measured = ~np.isnan(rows).all(1)
    return rows[is_measured], np.flatnonzero(is_measured)


def update_ratio(
    evidence: Evidence,
    observation: Observation,
) -> float:
    """Return the median ratio of updates to weights over kernels; NaN without kernels."""
    is_kernel = [path.split("/")[-1] == "kernel" for path in evidence.parameters]
    ratios = observation.update_ratio[np.array(is_kernel, bool)]
    return float(np.median(ratios)) if ratios.size else np.nan


def run_update_ratio(evidence: Evidence) -> float:
    """Return the median ratio of updates to kernels after 1 % of the run; NaN if not recorded."""
    rows, steps = instrument(evidence, "update_ratio")
    names = evidence.columns.get("update_ratio", ())
    # Copies have names such as "dense_0/kernel[1]".
    is_kernel = np.array(["kernel" in name.split("/")[-1] for name in names], bool)
    kept = rows[steps >= len(evidence.history[LOSS]) // 100][:, is_kernel] if rows.size else rows
    return float(np.median(kept)) if kept.size else np.nan


def valid_losses(evidence: Evidence) -> np.ndarray:
    """Return the recorded validation losses (epochs,); empty without validation."""
    return np.asarray(evidence.history.get(VALID_LOSS, np.zeros(0)), float)
