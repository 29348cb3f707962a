"""Rules of gradients: not finite, exploding, vanishing, without effect."""

import numpy as np

from fnn.diagnose import levels
from fnn.diagnose.evidence import Evidence
from fnn.diagnose.findings import ERROR, WARNING, Finding, Rule
from fnn.diagnose.nonfinite_rules import nonfinite
from fnn.diagnose.observation import Observation
from fnn.diagnose.parameter_rules import DEAD
from fnn.diagnose.thresholds import Thresholds

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


def gradient_profile(
    evidence: Evidence,
    observation: Observation,
) -> tuple[list[str], np.ndarray]:
    """Return the layers with a gradient by their outputs, and its norms relative to the last."""
    norms = np.asarray(observation.gradient_norm, float)
    known = np.isfinite(norms)
    layers = [path for path, is_known in zip(evidence.layers, known, strict=True) if is_known]
    norms = norms[known]
    if not norms.size or norms[-1] <= 0:
        return layers, np.ones(len(layers))
    return layers, norms / norms[-1]


def exploding(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T02: the gradient grows from the last layer to the first."""
    layers, profile = gradient_profile(evidence, evidence.start)
    if len(layers) < 3 or profile[0] < limits.explosion_ratio:
        return []
    # Norms relative to the last layer: the scale of the loss cancels.
    # The layer of the largest growth: its gradient by its input relative to that by its output.
    growth = profile[:-1] / np.maximum(profile[1:], 1e-30)
    layer = layers[int(growth.argmax()) + 1]
    _, last = gradient_profile(evidence, evidence.end)
    has_failed = not levels.train_level(evidence) <= limits.poor_level
    measured = {
        "ratio": profile[0],
        "ratio at end": last[0],
        "growth": growth.max(),
    }
    title = f"the gradient grows {profile[0]:.3g} times from the last layer to {layers[0]}"
    threshold = f"ratio of the norms by first and last layer > {limits.explosion_ratio}"
    severity = ERROR if has_failed else WARNING
    return [
        EXPLODING.finding(
            severity,
            title,
            measured,
            threshold,
            layer=layer,
        )
    ]


def vanishing(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T03: the gradient shrinks from the last layer to the first, at the start and at the end."""
    layers, profile = gradient_profile(evidence, evidence.start)
    _, last = gradient_profile(evidence, evidence.end)
    if len(layers) < 3 or not 0 < profile[0] < limits.vanishing_ratio:
        return []
    has_failed = not levels.train_level(evidence) <= limits.fair_level
    # A network that trains in spite of small gradients at its start has no fault.
    if not (last[0] < limits.vanishing_ratio or has_failed):
        return []
    shrinkage = profile[1:] / np.maximum(profile[:-1], 1e-30)
    steepest = int(shrinkage.argmax())
    others = np.delete(shrinkage, steepest)
    # Where all layers shrink alike, none of them is at fault: the first one is named.
    is_single = shrinkage[steepest] > limits.layer_step * max(1.0, np.median(others))
    layer = layers[steepest + 1] if is_single else layers[0]
    measured = {
        "ratio": profile[0],
        "ratio at end": last[0],
        "shrinkage": shrinkage.max(),
    }
    title = f"the gradient at {layers[0]} is {profile[0]:.2g} of that at the last layer"
    threshold = f"ratio of the norms by first and last layer < {limits.vanishing_ratio}"
    severity = ERROR if has_failed else WARNING
    return [
        VANISHING.finding(
            severity,
            title,
            measured,
            threshold,
            layer=layer,
        )
    ]


def untrained(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
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
    return [
        DEAD.finding(
            ERROR,
            title,
            measured,
            "change == 0",
            layer=layer,
        )
    ]


def _layer_index(
    evidence: Evidence,
    parameter: str,
) -> int:
    found = [
        index for index, layer in enumerate(evidence.layers) if parameter.startswith(f"{layer}/")
    ]
    return max(found, default=-1)


def gradient_spikes(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
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
    return [
        EXPLODING.finding(
            WARNING,
            title,
            measured,
            threshold,
            layer=layer,
            steps=place,
        )
    ]


RULES = (
    nonfinite,
    exploding,
    gradient_spikes,
    vanishing,
    untrained,
)
