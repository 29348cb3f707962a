"""Rules of the loss function and the labels."""

import numpy as np

from fnn.diagnose import levels
from fnn.diagnose.evidence import CLASSES, OTHER, Evidence
from fnn.diagnose.findings import ERROR, WARNING, Finding, Rule
from fnn.diagnose.thresholds import Thresholds

LABEL_NOISE = Rule(
    "E07",
    "label_noise",
    "Northcutt et al. 2021 (confident learning); neighbors of Wilson 1972",
    ("labels are wrong",),
    ("check the suspicious examples", "use label smoothing or a robust loss", "stop early"),
    "inspect 50 of the examples whose neighbors have another label",
)
UNRELATED = Rule(
    "P14",
    "inputs_ignored",
    "Ben Braiek & Khomh 2023 (TheDeepChecker); Karpathy 2019",
    ("labels are shuffled against inputs", "inputs lost their content in preprocessing"),
    ("check pairs of inputs and labels", "shuffle inputs and labels by the same order"),
    "train with permuted labels: if the validation loss is the same, inputs do not matter",
)
LAST_ACTIVATION = Rule(
    "P06",
    "last_activation",
    "Schoop et al. 2021 (UMLAUT)",
    ("softmax is applied twice, or not at all",),
    ("give logits to objective.cross_entropy", "take log_softmax before objective.nll"),
    "evaluate the loss at one-hot outputs: it must be near 0",
)
FLIPPED = Rule(
    "T14",
    "flipped_sign",
    "Ben Braiek & Khomh 2023 (TheDeepChecker, flipped sign)",
    ("the sign of the loss is wrong",),
    ("minimize the negative log-likelihood",),
    "train with negated updates: the outputs must get better",
)


def label_noise(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """E07: the neighbors of many examples agree on another label."""
    baselines = evidence.task.baselines
    share = baselines.doubtful_share
    if not share > limits.label_noise:
        return []
    measured = {"share": share, "suspects": baselines.suspects[:50]}
    title = f"at least {share:.1%} of the labels contradict those of their neighbors"
    threshold = f"8 of 10 neighbors agree on another label for > {limits.label_noise:.0%}"
    return [
        LABEL_NOISE.finding(
            WARNING,
            title,
            measured,
            threshold,
        )
    ]


def unrelated_labels(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """P14: neither the network nor any baseline predicts held-out labels from their inputs."""
    baselines = evidence.task.baselines
    constant = levels.constant_score(evidence)
    # The accuracy of a constant that is right for most examples is hard to exceed.
    if not np.isfinite(baselines.linear) or constant > limits.majority:
        return []
    scores = [baselines.linear, baselines.neighbor, baselines.neighbor_within]
    own = levels.valid_score(evidence)
    if np.isfinite(own):
        scores.append(own)
    elif levels.train_level(evidence) < 1 - limits.progress:
        # Without validation, a network that learns may know more than it memorizes.
        return []
    # The best of several scores of few examples is above chance by chance.
    held_out = len(evidence.task.valid_targets) or len(evidence.task.targets) // 4
    error = np.sqrt(max(constant * (1 - constant), 0.01) / held_out)
    if max(scores) > constant + max(limits.baseline_margin, 2.5 * error):
        return []
    measured = {
        "linear": baselines.linear,
        "nearest neighbor": baselines.neighbor,
        "score": own,
        "constant": constant,
    }
    title = f"no predictor of the labels is better than a constant, {max(scores):.2g}"
    threshold = f"scores <= that of a constant + {limits.baseline_margin}"
    return [
        UNRELATED.finding(
            ERROR,
            title,
            measured,
            threshold,
        )
    ]


def flipped_sign(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T14: the loss of right outputs is higher than that of wrong ones."""
    probes = evidence.task.probes
    if not probes.right > probes.wrong:
        return []
    measured = {"loss of right outputs": probes.right, "loss of wrong outputs": probes.wrong}
    title = f"the loss is {probes.right:.3g} for right outputs and {probes.wrong:.3g} for wrong"
    return [
        FLIPPED.finding(
            ERROR,
            title,
            measured,
            "loss of right > loss of wrong",
        )
    ]


def _is_coupled(evidence: Evidence) -> bool:
    """Return whether the loss of an example changes with the outputs of others."""
    probes = evidence.task.probes
    return evidence.task.kind != OTHER and probes.coupling > 0.01 * abs(probes.wrong)


def wrong_softmax(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """P06: the loss applies softmax twice, or not at all."""
    probes = evidence.task.probes
    if evidence.task.kind != CLASSES or not probes.right <= probes.wrong or _is_coupled(evidence):
        return []
    measured = {"loss when sure": probes.right, "loss when surer": probes.surer}
    if probes.surer < -1:
        title = f"the loss has no lower bound: {probes.surer:.3g} for large right logits"
        advice = ("use objective.cross_entropy, which takes logits",)
        return [
            LAST_ACTIVATION.finding(
                ERROR,
                title,
                measured,
                "loss < -1",
                advice=advice,
            )
        ]
    # Even logits have the loss of chance. Of one softmax, sure logits have nearly none.
    floor = limits.double_softmax * probes.even
    # With label smoothing the loss of surer logits is higher.
    is_bounded = abs(probes.surer - probes.right) < 0.01 * probes.even
    if probes.surer > floor and is_bounded:
        title = (
            f"the loss of right outputs is {probes.surer:.3g} at least: softmax is applied twice"
        )
        threshold = f"loss of sure logits > {floor:.2g}"
        return [
            LAST_ACTIVATION.finding(
                ERROR,
                title,
                measured,
                threshold,
            )
        ]
    return []


def flipped_update(
    evidence: Evidence,
    limits: Thresholds,
) -> list[Finding]:
    """T14: updates follow the gradient of the loss uphill."""
    slope = float(evidence.start.slope)
    line = np.asarray(evidence.start.line, float)
    # Weight decay may turn an update; then the loss falls along others.
    rises = (line[:, 1] > line[:, 0]).all()
    if not (slope > limits.uphill and rises):
        return []
    measured = {"cosine": slope}
    title = f"updates raise the loss: their cosine to the gradient is {slope:.2g}"
    threshold = f"cosine > {limits.uphill}"
    advice = ("check the sign of the update",)
    return [
        FLIPPED.finding(
            ERROR,
            title,
            measured,
            threshold,
            advice=advice,
        )
    ]


RULES = (
    flipped_sign,
    flipped_update,
    wrong_softmax,
    unrelated_labels,
    label_noise,
)
