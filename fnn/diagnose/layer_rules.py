"""Rules of single layers and parameters: gradients, dead and saturated units, normalization."""

import numpy as np

from fnn.diagnose import levels
from fnn.diagnose.evidence import Evidence
from fnn.diagnose.findings import ERROR, WARNING, Finding, Rule
from fnn.diagnose.localize import BACKWARD, INPUTS
from fnn.diagnose.observation import Observation
from fnn.diagnose.thresholds import Thresholds
from fnn.train.figures import LOSS

NONFINITE = Rule(
    "T01",
    "nonfinite",
    "replay of the step, layer by layer",
    ("log, sqrt or a division at 0", "the learning rate is too high", "numbers overflow"),
    ("guard log, sqrt and divisions", "lower the rate", "clip gradients"),
    "replay the step with diagnose.localize",
)
EXPLODING = Rule(
    "T02",
    "exploding_gradient",
    "Zhang et al. 2021 (AutoTrainer); Hanin 2018",
    ("the initialization is too large", "the network is deep and has no normalization"),
    ("initialize by nn.he_normal or nn.lsuv", "add nn.batch_norm or residual blocks", "clip"),
    "initialize with nn.lsuv: the profile of gradients must be level",
)
VANISHING = Rule(
    "T03",
    "vanishing_gradient",
    "Zhang et al. 2021 (AutoTrainer); Glorot & Bengio 2010",
    ("the initialization is too small", "saturating activations in a deep network"),
    ("use nn.relu with nn.he_normal", "add nn.batch_norm or residual blocks", "use nn.lsuv"),
    "initialize with nn.lsuv: the profile of gradients must be level",
)
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
    "scale the kernel before the layer by a tenth: the loss must fall faster",
)
UNTRAINED = Rule(
    "P09",
    "dead_parameter",
    "TheDeepChecker, SageMaker Debugger (UnchangedTensor)",
    ("a stop_gradient, or a branch that is not connected", "the layer is frozen by mistake"),
    ("remove the stop_gradient", "give the parameter to the optimizer"),
    "take the gradient of the loss by the parameter: it must not be 0",
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


def nonfinite(evidence: Evidence, limits: Thresholds) -> list[Finding]:
    """T01: the first non-finite number, with its layer and direction."""
    place = evidence.location
    if place is None:
        return []
    measured = {"direction": place.direction, "largest before": place.largest}
    if place.copy is not None:
        measured["copy"] = place.copy
    verb = "in the gradient of" if place.direction == BACKWARD else "in"
    title = f"step {place.step} is not finite, first {verb} {place.layer}"
    advice: tuple[str, ...] = ()
    if place.layer == INPUTS:
        advice = ("remove examples that are not finite",)
    steps = (place.step, place.step)
    # A step that was skipped has not ended the run.
    severity = ERROR if evidence.is_cut else WARNING
    finding = NONFINITE.finding(
        severity, title, measured, "any", layer=place.layer, steps=steps, advice=advice
    )
    return [finding]


def gradient_profile(evidence: Evidence, observation: Observation) -> tuple[list[str], np.ndarray]:
    """Return the layers with a gradient by their outputs, and its norms relative to the last."""
    norms = np.asarray(observation.gradient_norm, float)
    known = np.isfinite(norms)
    layers = [path for path, is_known in zip(evidence.layers, known, strict=True) if is_known]
    norms = norms[known]
    if not norms.size or norms[-1] <= 0:
        return layers, np.ones(len(layers))
    return layers, norms / norms[-1]


def exploding(evidence: Evidence, limits: Thresholds) -> list[Finding]:
    """T02: the gradient grows from the last layer to the first."""
    layers, profile = gradient_profile(evidence, evidence.start)
    if len(layers) < 3 or profile[0] < limits.explosion_ratio:
        return []
    # The layer of the largest growth: its gradient by its input relative to that by its output.
    growth = profile[:-1] / np.maximum(profile[1:], 1e-30)
    layer = layers[int(growth.argmax()) + 1]
    _, last = gradient_profile(evidence, evidence.end)
    has_failed = not levels.train_level(evidence) <= limits.poor_level
    measured = {"ratio": profile[0], "ratio at end": last[0], "growth": growth.max()}
    title = f"the gradient grows {profile[0]:.3g} times from the last layer to {layers[0]}"
    threshold = f"ratio of the norms by first and last layer > {limits.explosion_ratio}"
    severity = ERROR if has_failed else WARNING
    return [EXPLODING.finding(severity, title, measured, threshold, layer=layer)]


def vanishing(evidence: Evidence, limits: Thresholds) -> list[Finding]:
    """T03: the gradient shrinks from the last layer to the first, at the start and at the end."""
    layers, profile = gradient_profile(evidence, evidence.start)
    _, last = gradient_profile(evidence, evidence.end)
    if len(layers) < 3 or not 0 < profile[0] < limits.vanishing_ratio:
        return []
    has_failed = not levels.train_level(evidence) <= limits.fair_level
    if not (last[0] < limits.vanishing_ratio or has_failed):
        return []
    shrinkage = profile[1:] / np.maximum(profile[:-1], 1e-30)
    steepest = int(shrinkage.argmax())
    others = np.delete(shrinkage, steepest)
    is_single = shrinkage[steepest] > limits.layer_step * max(1.0, np.median(others))
    layer = layers[steepest + 1] if is_single else layers[0]
    measured = {"ratio": profile[0], "ratio at end": last[0], "shrinkage": shrinkage.max()}
    title = f"the gradient at {layers[0]} is {profile[0]:.2g} of that at the last layer"
    threshold = f"ratio of the norms by first and last layer < {limits.vanishing_ratio}"
    severity = ERROR if has_failed else WARNING
    return [VANISHING.finding(severity, title, measured, threshold, layer=layer)]


def dead_units(evidence: Evidence, limits: Thresholds) -> list[Finding]:
    """T06: units of a rectifier that no example activates."""
    last = np.asarray(evidence.end.dead_share, float)
    units = np.asarray(evidence.end.units, float)
    last = np.where(units < limits.min_units, np.nan, last)
    if not np.isfinite(last).any():
        return []
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
        severity, title, measured, threshold, layer=layer, steps=steps, advice=advice
    )
    return [finding]


def _death(evidence: Evidence, layer: str, share: float) -> int | None:
    """Return the first recorded step at which half of the dead units of a layer are dead."""
    rows, steps = levels.instrument(evidence, "dead_share")
    names = evidence.columns.get("dead_share", ())
    if layer not in names or not len(rows):
        return None
    is_dead = rows[:, names.index(layer)] > share / 2
    return int(steps[is_dead.argmax()]) if is_dead.any() else None


def saturated_units(evidence: Evidence, limits: Thresholds) -> list[Finding]:
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
    worst = int(np.flatnonzero(is_bad)[0])
    layer = evidence.layers[worst]
    share = float(np.nanmax(shares[:, worst]))
    measured = {"saturated share": share, "at start": float(shares[0, worst])}
    title = f"{share:.0%} of the units of {layer} are saturated"
    threshold = f"share >= {limits.saturated_share}"
    severity = ERROR if not end_level <= limits.poor_level else WARNING
    return [SATURATED.finding(severity, title, measured, threshold, layer=layer)]


def untrained(evidence: Evidence, limits: Thresholds) -> list[Finding]:
    """P09: parameters that have not changed at all during the run."""
    place = evidence.location
    if place is not None and place.step == 0:
        return []
    is_still = evidence.change == 0
    # A rate of 0 throughout is no fault of a layer.
    if is_still.all() and not (evidence.start.update_ratio > 0).any():
        is_still = evidence.start.grad_rms == 0
    paths = [path for path, still in zip(evidence.parameters, is_still, strict=True) if still]
    kernels = [path for path in paths if path.split("/")[-1] != "bias"]
    if not kernels:
        return []
    # The order of layers, not of the parameters' names.
    by_layer = {path: _layer_index(evidence, path) for path in kernels}
    worst = max(kernels, key=by_layer.__getitem__)
    index = evidence.parameters.index(worst)
    gradient = max(float(evidence.start.grad_rms[index]), float(evidence.end.grad_rms[index]))
    layer = worst.rsplit("/", 1)[0]
    measured = {"parameters": len(paths), "gradient": gradient}
    cause = "the optimizer leaves it out" if gradient > 0 else "its gradient is 0"
    if worst in evidence.frozen:
        cause = "it is frozen"
    title = f"{worst} has not changed: {cause}"
    return [UNTRAINED.finding(ERROR, title, measured, "change == 0", layer=layer)]


def _layer_index(evidence: Evidence, parameter: str) -> int:
    found = [
        index for index, layer in enumerate(evidence.layers) if parameter.startswith(f"{layer}/")
    ]
    return max(found, default=-1)


def penalty_dominates(evidence: Evidence, limits: Thresholds) -> list[Finding]:
    """T15: the gradient of the regularizer exceeds that of the loss, or the weights shrink to 0."""
    end_level = levels.train_level(evidence)
    is_kernel = np.array([path.split("/")[-1] == "kernel" for path in evidence.parameters], bool)
    if not end_level > limits.fair_level or not is_kernel.any():
        return []
    start = evidence.start
    ratio = np.median((start.penalty_rms / np.maximum(start.grad_rms, 1e-12))[is_kernel])
    sizes = (evidence.end.weight_rms / np.maximum(start.weight_rms, 1e-12))[is_kernel]
    shrinkage = float(np.median(sizes))
    if not (ratio > limits.penalty_ratio or shrinkage < limits.shrinkage):
        return []
    measured = {"gradient ratio": float(ratio), "size of weights": shrinkage, "level": end_level}
    title = (
        f"the weights shrink to {shrinkage:.2g} of their size, with a loss of {end_level:.2g} of "
        "chance"
    )
    if ratio > limits.penalty_ratio:
        title = f"the gradient of the regularizer is {ratio:.2g} times that of the loss"
    threshold = f"gradient ratio > {limits.penalty_ratio}, or weights < {limits.shrinkage}"
    severity = ERROR if end_level > limits.poor_level else WARNING
    return [DOMINATING_PENALTY.finding(severity, title, measured, threshold)]


def batch_norm_drift(evidence: Evidence, limits: Thresholds) -> list[Finding]:
    """T16: batch normalization differs between training and evaluation."""
    layers = [path for path, kind in _named(evidence) if kind == "batch_norm"]
    if not layers:
        return []
    found = []
    if evidence.still:
        layer = evidence.still[0].rsplit("/", 1)[0]
        measured: dict[str, float] = {"layers": len(evidence.still) // 2}
        title = f"the running statistics of {layer} have not changed: it is not in training mode"
        finding = NORMALIZATION.finding(ERROR, title, measured, "change == 0", layer=layer)
        found.append(finding)
    training = float(evidence.end.train_mode_loss)
    evaluation = float(evidence.end.eval_mode_loss)
    scale = levels.chance(evidence)
    excess = (evaluation - training) / scale
    if evaluation > limits.mode_ratio * training and excess > limits.low_level:
        measured = {"training mode": training, "evaluation mode": evaluation}
        title = f"the loss of a batch is {evaluation:.3g} in evaluation, {training:.3g} in training"
        threshold = f"ratio > {limits.mode_ratio}, difference > {limits.low_level} of chance"
        severity = ERROR if excess > 0.5 else WARNING
        found.append(NORMALIZATION.finding(severity, title, measured, threshold, layer=layers[0]))
    return found[:1]


def small_batches(evidence: Evidence, limits: Thresholds) -> list[Finding]:
    """T16: batch normalization over few examples."""
    layers = [path for path, kind in _named(evidence) if kind == "batch_norm"]
    if not layers or not evidence.batch_size < limits.small_batch:
        return []
    measured = {"batch size": evidence.batch_size}
    title = f"batch normalization over batches of {evidence.batch_size} examples"
    threshold = f"batch size < {limits.small_batch}"
    return [SMALL_BATCHES.finding(WARNING, title, measured, threshold, layer=layers[0])]


def _named(evidence: Evidence) -> list[tuple[str, str]]:
    return list(zip(evidence.layers, evidence.kinds, strict=True))


def unused_weights(evidence: Evidence, limits: Thresholds) -> list[Finding]:
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
            return [UNUSED_WEIGHTS.finding(WARNING, title, measured, threshold, layer=layer)]
    return []


def gradient_spikes(evidence: Evidence, limits: Thresholds) -> list[Finding]:
    """T02: the recorded gradient is far above its median at several steps."""
    rows, steps = levels.instrument(evidence, "grad_rms")
    if len(rows) < limits.min_steps:
        return []
    sizes = np.sqrt(np.square(rows).sum(1))
    median = np.array([np.median(sizes[max(0, row - 100) : row + 1]) for row in range(len(rows))])
    is_spike = sizes > limits.gradient_spike * median
    # Persistent: 3 of 10 measured steps.
    counts = np.convolve(is_spike, np.ones(10, int))[: len(rows)]
    if counts.max() < 3:
        return []
    last = int((counts >= 3).argmax())
    worst = int(np.argmax(sizes[: last + 1]))
    layer = evidence.columns["grad_rms"][int(rows[worst].argmax())]
    measured = {"ratio": float(sizes[worst] / median[worst])}
    title = f"the gradient is {sizes[worst] / median[worst]:.3g} times its median at {layer}"
    threshold = f"{limits.gradient_spike} x the median of 100 in 3 of 10 measured steps"
    place = (int(steps[max(0, last - 9)]), int(steps[last]))
    return [EXPLODING.finding(WARNING, title, measured, threshold, layer=layer, steps=place)]


RULES = (
    nonfinite,
    exploding,
    gradient_spikes,
    vanishing,
    dead_units,
    saturated_units,
    untrained,
    penalty_dominates,
    batch_norm_drift,
    small_batches,
    unused_weights,
)
