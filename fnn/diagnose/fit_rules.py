"""Rules of the result: generalization, errors of classes, calibration, baselines."""

import numpy as np

from fnn.diagnose import levels
from fnn.diagnose.evidence import CLASSES, Evidence
from fnn.diagnose.findings import ERROR, INFO, WARNING, Finding, Rule
from fnn.diagnose.thresholds import Thresholds

BINS = 15  # of the calibration error [Guo et al. 2017]
MIN_EXAMPLES = 5  # of a class, for its error
OVERFIT = Rule(
    "E01",
    "overfit",
    "Prechelt 1998; Zhang et al. 2021 (AutoTrainer)",
    ("the network memorizes few examples", "no augmentation or regularization"),
    ("use the weights of the best epoch", "augment", "decay weights", "add dropout", "add data"),
    "train with weight decay: the validation loss must be lower",
)
UNDERFIT = Rule(
    "E02",
    "underfit",
    "CS231n: validation that tracks training shows too little capacity",
    ("the network is too small", "too much regularization or dropout", "the run is too short"),
    ("make the network larger", "regularize less", "train longer"),
    "train with less regularization, or a wider network: the training loss must be lower",
)
NOISY_VALIDATION = Rule(
    "E05",
    "noisy_validation",
    "Tuning Playbook, Godbole et al. 2023",
    ("the rate is high at the end", "the validation set is small"),
    ("decay the rate", "average the parameters, by optim.ema", "use more validation examples"),
    "evaluate an average of the parameters: its figures must vary less",
)
VALIDATION_BETTER = Rule(
    "E06",
    "validation_better",
    "Schoop et al. 2021 (UMLAUT)",
    ("validation examples are in the training set", "validation is easier than training"),
    ("compare the sets with data.overlap", "split at random"),
    "count validation examples that are also in the training set",
)
MISCALIBRATED = Rule(
    "E08",
    "miscalibrated",
    "Guo et al. 2017",
    ("the network is trained to certainty",),
    ("fit a temperature, by ensemble.temperature", "use label smoothing"),
    "fit a temperature on validation: the error must fall",
)
CLASS_COLLAPSE = Rule(
    "E09",
    "class_collapse",
    "SageMaker Debugger (ClassImbalance)",
    ("classes are unbalanced", "the network predicts few classes"),
    ("weigh the classes, by objective.class_weighted", "draw balanced batches"),
    "train with class weights: the recall of the class must rise",
)
BELOW_BASELINE = Rule(
    "E10",
    "worse_than_baseline",
    "Karpathy 2019, A recipe for training neural networks",
    ("a fault in data, network or optimization",),
    ("overfit 16 examples first", "compare with the baseline on the same inputs"),
    "train from other keys: the score must stay below that of the baseline",
)


def overfit(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """E01: training is far better than validation."""
    trained = levels.level(evidence, evidence.end)
    validated = levels.valid_level(evidence)
    if not np.isfinite(validated):
        return []
    # Both in evaluation mode: dropout alone makes the recorded training loss higher.
    gap = validated - trained
    gap_score = levels.train_score(evidence) - levels.valid_score(evidence)
    losses = levels.valid_losses(evidence)
    rise = 0.0
    best = len(losses)
    if len(losses) >= 4 and np.isfinite(losses).all():
        best = int(losses.argmin()) + 1
        rise = float((losses[-3:].min() - losses.min()) / levels.chance(evidence))
    error = _standard_error(evidence)
    factor = 1 if evidence.task.kind == CLASSES else limits.gap_factor
    is_gap = gap > factor * limits.gap_level and gap > limits.gap_significance * error
    # A loss may rise by confidence alone, while the predictions stay as good.
    is_score_gap = gap_score > factor * limits.gap_accuracy
    if not (is_gap and is_score_gap):
        return []
    measured = {
        "gap": gap,
        "score gap": gap_score,
        "best epoch": best,
        "rise": rise,
    }
    title = (
        f"the validation loss is {validated:.2g} times that of guessing, the training loss "
        f"{trained:.2g} times"
    )
    if rise > limits.generalization_loss / 2:
        title += f"; validation was best after epoch {best} of {len(losses)}"
    threshold = (
        f"gap > {limits.gap_level} times the loss of guessing, and scores differ by "
        f"> {limits.gap_accuracy}"
    )
    return [
        OVERFIT.finding(
            WARNING,
            title,
            measured,
            threshold,
        )
    ]


def _standard_error(evidence: Evidence) -> float:
    """Return the standard error of the validation level."""
    losses = np.asarray(evidence.end.valid_losses, float)
    if losses.size < 2:
        return np.nan
    return float(losses.std() / np.sqrt(losses.size)) / levels.chance(evidence)


def underfit(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """E02: training is poor, no better than validation, and a baseline does better."""
    trained = levels.train_level(evidence)
    own = levels.train_score(evidence)
    baselines = evidence.task.baselines
    best = np.nanmax([baselines.linear, baselines.neighbor, -np.inf])
    if not trained > limits.fair_level or not np.isfinite(own):
        return []
    # Where no other predictor does better, the rest of the loss may be noise of the labels.
    if best < own + limits.baseline_margin and trained < limits.poor_level:
        return []
    validated = levels.valid_level(evidence)
    # With a gap, more capacity would widen it.
    if np.isfinite(validated) and validated - trained > limits.gap_level:
        return []
    measured = {
        "level": trained,
        "score": own,
        "best baseline": float(best),
    }
    title = (
        f"the training loss stays at {trained:.2g} times that of guessing, "
        f"with a score of {own:.2g}"
    )
    threshold = f"loss > {limits.fair_level} times that of guessing"
    return [
        UNDERFIT.finding(
            WARNING,
            title,
            measured,
            threshold,
        )
    ]


def noisy_validation(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """E05: the last validation losses vary more than their standard error explains."""
    losses = levels.valid_losses(evidence)
    if len(losses) < 10 or not np.isfinite(losses).all():
        return []
    last = losses[-10:]
    # Of differences, so that a trend does not count as noise.
    deviation = float(np.diff(last).std() / np.sqrt(2)) / levels.chance(evidence)
    error = _standard_error(evidence)
    is_large = deviation > limits.noisy_validation * error and deviation > limits.low_level / 2
    # The same examples are evaluated each time, so that only the network varies.
    share = deviation * levels.chance(evidence) / abs(last.mean())
    is_constant = levels.rate_share(evidence, evidence.end) > 0.5
    if not is_large and not (is_constant and share > limits.noisy_share):
        return []
    measured = {"deviation": deviation, "standard error": error}
    title = (
        f"the validation loss varies by {deviation:.2g} times that of guessing from epoch to epoch"
    )
    threshold = (
        f"deviation of 10 epochs > {limits.noisy_validation} standard errors, or > "
        f"{limits.noisy_share} of the loss at a rate that is not decayed"
    )
    return [
        NOISY_VALIDATION.finding(
            INFO,
            title,
            measured,
            threshold,
        )
    ]


def validation_better(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """E06: validation is better than training, both in evaluation mode."""
    if evidence.task.kind != CLASSES:
        return []
    validated = levels.valid_score(evidence)
    gap = validated - levels.train_score(evidence)
    count = len(evidence.task.valid_targets)
    # Binomial, but not 0 where all of few examples are right.
    error = np.sqrt(max(validated * (1 - validated), 0.01) / max(count, 1))
    if not (gap > limits.reverse_gap and gap > limits.significance * error):
        return []
    measured = {"gap": gap, "standard error": float(error)}
    title = f"the accuracy of validation is {gap:.2g} above that of training"
    threshold = f"gap > {limits.reverse_gap} and {limits.significance} standard errors"
    return [
        VALIDATION_BETTER.finding(
            WARNING,
            title,
            measured,
            threshold,
        )
    ]


def miscalibrated(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """E08: the confidence of predictions is not their accuracy."""
    outputs = evidence.end.valid_outputs
    if evidence.task.kind != CLASSES or isinstance(outputs, tuple):
        return []
    if not np.isfinite(outputs).all():
        return []
    logits = outputs.reshape(-1, outputs.shape[-1])
    error = calibration_error(logits, evidence.task.valid_targets.reshape(-1))
    if not error > limits.calibration_warning:
        return []
    measured = {"calibration error": error}
    title = f"confidence and accuracy differ by {error:.2g} on average"
    threshold = f"expected calibration error > {limits.calibration_warning}"
    return [
        MISCALIBRATED.finding(
            INFO,
            title,
            measured,
            threshold,
        )
    ]


def calibration_error(
    outputs: np.ndarray,
    labels: np.ndarray,
) -> float:
    """Return the expected calibration error of logits (n, classes) in 15 bins."""
    # The exponential of a large logit would overflow.
    shifted = outputs - outputs.max(1, keepdims=True)
    exponentials = np.exp(shifted.astype(float))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    confidence = probabilities.max(1)
    is_right = probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    difference = np.bincount(bins, weights=is_right - confidence, minlength=BINS)
    return float(np.abs(difference).sum() / len(labels))


def class_collapse(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """E09: a class is hardly ever predicted."""
    if evidence.task.kind != CLASSES:
        return []
    labels = evidence.task.targets.reshape(-1)
    predicted = evidence.end.outputs.argmax(-1).reshape(-1)
    shares = evidence.task.shares
    counts = np.bincount(labels, minlength=len(shares))
    hits = np.bincount(labels[predicted == labels], minlength=len(shares))
    # A class of a few examples may be missed by chance.
    errors = np.where(counts >= MIN_EXAMPLES, 1 - hits / np.maximum(counts, 1), 0)
    wrong = np.flatnonzero(errors > limits.class_error)
    if not wrong.size:
        return []
    measured = {"classes": wrong.tolist(), "errors": errors[wrong].round(3).tolist()}
    title = f"{len(wrong)} of {len(shares)} classes have an error above {limits.class_error:.0%}"
    threshold = f"error of a class > {limits.class_error}"
    # Where most classes are missed, the network predicts one of them, whatever its input is.
    severity = ERROR if len(wrong) > len(shares) / 2 else WARNING
    return [
        CLASS_COLLAPSE.finding(
            severity,
            title,
            measured,
            threshold,
        )
    ]


def below_baseline(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """E10: a predictor without a network is better on validation."""
    own = levels.valid_score(evidence)
    if not np.isfinite(own):
        return []
    baselines = evidence.task.baselines
    constant = levels.constant_score(evidence)
    scores = {"constant": constant, "linear": baselines.linear}
    name = max(scores, key=lambda name: np.nan_to_num(scores[name], nan=-np.inf))
    if not scores[name] > own + (limits.baseline_margin if name == "linear" else -1e-9):
        return []
    trained = levels.train_score(evidence)
    # Training learns a relation that does not hold on validation.
    contradicts = own <= constant < trained - limits.gap_accuracy
    measured = {
        "score": own,
        "train score": trained,
        "contradicts": contradicts,
        **scores,
    }
    text = "the most frequent class" if name == "constant" else "a linear model"
    title = f"validation scores {own:.2g}, {text} {scores[name]:.2g}"
    threshold = f"score < that of a baseline by {limits.baseline_margin}"
    severity = ERROR if own <= constant else WARNING
    advice: tuple[str, ...] = ()
    if contradicts:
        advice = ("check that labels of training and validation have the same meaning",)
    return [
        BELOW_BASELINE.finding(
            severity,
            title,
            measured,
            threshold,
            advice=advice,
        )
    ]


RULES = (
    overfit,
    underfit,
    noisy_validation,
    validation_better,
    miscalibrated,
    class_collapse,
    below_baseline,
)
