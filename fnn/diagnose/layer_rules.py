"""Rules of single layers: dead and saturated units, penalties, batch normalization."""

import numpy as np

from fnn.diagnose import levels
from fnn.diagnose.evidence import Evidence
from fnn.diagnose.findings import ERROR, WARNING, Finding, Rule
from fnn.diagnose.thresholds import Thresholds
from fnn.train.figures import LOSS

DEAD_UNITS = Rule(
    "T06",
    "dead_units",
    "Ben Braiek & Khomh 2023 (TheDeepChecker); SageMaker Debugger",
    ("the learning rate is too high", "biases are far below 0", "inputs are not normalized"),
    ("lower the rate", "initialize biases with 0", "use nn.leaky_relu or nn.gelu"),
    "train again at a tenth of the rate: the units must live",
)
SATURATED = Rule(
    "T07",
    "saturated_units",
    "Rakitianskaia & Engelbrecht 2015; Ben Braiek & Khomh 2023 (TheDeepChecker)",
    ("weights are initialized too large for tanh or sigmoid", "inputs are not normalized"),
    ("initialize by nn.xavier_normal", "normalize the inputs", "normalize activations", "use relu"),
    "train again with nn.lsuv: the loss must fall faster",
)
DOMINATING_PENALTY = Rule(
    "T15",
    "penalty_dominates",
    "Ben Braiek & Khomh 2023 (TheDeepChecker); CS231n",
    ("the regularizer or the weight decay is too strong",),
    ("divide it by 10", "train without it first"),
    "train again without it: the training loss must be lower",
)
NORMALIZATION = Rule(
    "T16",
    "batch_norm_drift",
    "Ben Braiek & Khomh 2023 (TheDeepChecker); Ioffe & Szegedy 2015",
    ("running statistics do not follow the batches", "batches are too small"),
    ("lower the momentum of nn.batch_norm", "use larger batches, or nn.group_norm"),
    "evaluate with statistics of the whole training set: the loss must fall",
)
SMALL_BATCHES = Rule(
    "T16",
    "small_batches",
    "Ioffe 2017, arXiv:1702.03275; Wu & He 2018, arXiv:1803.08494",
    ("statistics of few examples are noisy",),
    ("use larger batches", "use nn.group_norm or nn.layer_norm"),
    "train with nn.group_norm: the loss must be lower",
)
UNUSED_WEIGHTS = Rule(
    "T19",
    "unused_weights",
    "Ben Braiek & Khomh 2023 (TheDeepChecker)",
    ("an l1 penalty is too strong", "the layer is dead"),
    ("weaken the penalty", "make the layer smaller"),
    "set these weights to 0: the loss must stay the same",
)


def dead_units(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T06: units of a rectifier that no example activates."""
    last = np.asarray(evidence.end.dead_share, float)
    units = np.asarray(evidence.end.units, float)
    # Of two or three units, one that is dead is a large share by chance.
    last = np.where(units < limits.min_units, np.nan, last)
    if not np.isfinite(last).any():
        return []
    # "not <=" and not ">", so that a loss of NaN counts as failed.
    has_failed = not levels.train_level(evidence) <= limits.fair_level
    worst = int(np.nanargmax(last))
    share = last[worst]
    is_error = share >= limits.dead_error or (share >= limits.dead_warning and has_failed)
    if share < limits.dead_warning:
        return []
    first = float(np.asarray(evidence.start.dead_share)[worst])
    layer = evidence.layers[worst]
    when = "already at the start" if first > share / 2 else "died in training"
    advice = ("initialize biases with 0",) if first > share / 2 else ("lower the rate",)
    measured = {"dead share": share, "dead share at start": first}
    step = _death(evidence, layer, share)
    steps = None
    if step is not None and first <= share / 2:
        steps = (step, len(evidence.history[LOSS]) - 1)
        when = f"died in training by step {step}"
    title = f"{share:.0%} of the units of {layer} are dead, {when}"
    threshold = f"share >= {limits.dead_warning}"
    severity = ERROR if is_error else WARNING
    finding = DEAD_UNITS.finding(
        severity,
        title,
        measured,
        threshold,
        layer=layer,
        steps=steps,
        advice=advice,
    )
    return [finding]


def _death(
    evidence: Evidence,
    layer: str,
    share: float,
) -> int | None:
    """Return the first recorded step at which half of the dead units of a layer are dead."""
    rows, steps = levels.instrument(evidence, "dead_share")
    names = evidence.columns.get("dead_share", ())
    if layer not in names or not len(rows):
        return None
    is_dead = rows[:, names.index(layer)] > share / 2
    return int(steps[is_dead.argmax()]) if is_dead.any() else None


def saturated_units(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T07: units of tanh or sigmoid that most examples saturate."""
    shares = np.stack([evidence.start.saturated_share, evidence.end.saturated_share])
    if not np.isfinite(shares).any():
        return []
    end_level = levels.train_level(evidence)
    # A trained network may saturate; one that begins so, or that has failed, has a fault.
    is_bad = (shares[0] >= limits.saturated_share) | (
        (shares[1] >= limits.saturated_share) & (not end_level <= limits.fair_level)
    )
    if not is_bad.any():
        return []
    # The first layer in order: those after it get its saturated outputs.
    worst = int(np.flatnonzero(is_bad)[0])
    layer = evidence.layers[worst]
    share = float(np.nanmax(shares[:, worst]))
    measured = {"saturated share": share, "at start": float(shares[0, worst])}
    title = f"{share:.0%} of the units of {layer} are saturated"
    threshold = f"share >= {limits.saturated_share}"
    severity = ERROR if not end_level <= limits.poor_level else WARNING
    return [
        SATURATED.finding(
            severity,
            title,
            measured,
            threshold,
            layer=layer,
        )
    ]


def penalty_dominates(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T15: the gradient of the regularizer exceeds that of the loss, or the weights shrink to 0."""
    end_level = levels.train_level(evidence)
    start = evidence.start
    is_kernel = np.array([path.split("/")[-1] == "kernel" for path in evidence.parameters], bool)
    # Kernels of zeros cannot shrink.
    is_kernel &= np.asarray(start.weight_rms) > 0
    if not end_level > limits.fair_level or not is_kernel.any():
        return []
    # The median over kernels, since a head of zeros has a gradient but no penalty.
    ratio = np.median((start.penalty_rms / np.maximum(start.grad_rms, 1e-12))[is_kernel])
    sizes = (evidence.end.weight_rms / np.maximum(start.weight_rms, 1e-12))[is_kernel]
    shrinkage = float(np.median(sizes))
    if not (ratio > limits.penalty_ratio or shrinkage < limits.shrinkage):
        return []
    measured = {
        "gradient ratio": float(ratio),
        "size of weights": shrinkage,
        "level": end_level,
    }
    title = (
        f"the weights shrink to {shrinkage:.2g} of their size, with a loss of {end_level:.2g} of "
        "chance"
    )
    if ratio > limits.penalty_ratio:
        title = f"the gradient of the regularizer is {ratio:.2g} times that of the loss"
    threshold = f"gradient ratio > {limits.penalty_ratio}, or weights < {limits.shrinkage}"
    severity = ERROR if end_level > limits.poor_level else WARNING
    return [
        DOMINATING_PENALTY.finding(
            severity,
            title,
            measured,
            threshold,
        )
    ]


def batch_norm_drift(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T16: batch normalization differs between training and evaluation."""
    layers = [path for path, kind in _named(evidence) if kind == "batch_norm"]
    if not layers:
        return []
    found = []
    # Before the first step of a run that failed in it, nothing has changed.
    has_steps = evidence.location is None or evidence.location.step > 0
    if evidence.still and has_steps:
        layer = evidence.still[0].rsplit("/", 1)[0]
        measured: dict[str, float] = {"layers": len(evidence.still) // 2}
        title = f"the running statistics of {layer} have not changed: it is not in training mode"
        finding = NORMALIZATION.finding(
            ERROR,
            title,
            measured,
            "change == 0",
            layer=layer,
        )
        found.append(finding)
    training = float(evidence.end.train_mode_loss)
    evaluation = float(evidence.end.eval_mode_loss)
    # A ratio of losses near 0 is large without harm, so the difference counts as well.
    scale = levels.chance(evidence)
    excess = (evaluation - training) / scale
    if evaluation > limits.mode_ratio * training and excess > limits.low_level:
        measured = {"training mode": training, "evaluation mode": evaluation}
        title = f"the loss of a batch is {evaluation:.3g} in evaluation, {training:.3g} in training"
        threshold = (
            f"ratio > {limits.mode_ratio}, difference > {limits.low_level} times that of guessing"
        )
        severity = ERROR if excess > 0.5 else WARNING
        found.append(
            NORMALIZATION.finding(
                severity,
                title,
                measured,
                threshold,
                layer=layers[0],
            )
        )
    # Statistics that have not changed explain the difference of the modes.
    return found[:1]


def small_batches(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T16: batch normalization over few examples."""
    layers = [path for path, kind in _named(evidence) if kind == "batch_norm"]
    if not layers or not evidence.batch_size < limits.small_batch:
        return []
    measured = {"batch size": evidence.batch_size}
    title = f"batch normalization over batches of {evidence.batch_size} examples"
    threshold = f"batch size < {limits.small_batch}"
    return [
        SMALL_BATCHES.finding(
            WARNING,
            title,
            measured,
            threshold,
            layer=layers[0],
        )
    ]


def _named(evidence: Evidence) -> list[tuple[str, str]]:
    return list(zip(evidence.layers, evidence.kinds, strict=True))


def unused_weights(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T19: nearly all weights of a kernel are 0."""
    tiny = np.asarray(evidence.end.tiny_share, float)
    for index, path in enumerate(evidence.parameters):
        # A kernel that began with zeros and is trained is no fault yet.
        is_kernel = path.split("/")[-1] == "kernel"
        if is_kernel and tiny[index] > limits.tiny_share and evidence.change[index] != 0:
            measured = {"tiny share": float(tiny[index])}
            title = f"{tiny[index]:.0%} of the weights of {path} are 0"
            threshold = f"share > {limits.tiny_share}"
            layer = path.rsplit("/", 1)[0]
            return [
                UNUSED_WEIGHTS.finding(
                    WARNING,
                    title,
                    measured,
                    threshold,
                    layer=layer,
                )
            ]
    return []


RULES = (
    dead_units,
    saturated_units,
    penalty_dominates,
    batch_norm_drift,
    small_batches,
    unused_weights,
)
