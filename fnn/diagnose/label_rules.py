"""Rules on targets: scale of values; balance, offset and order of labels.

They read the targets on the host and compile nothing.
"""

from collections.abc import Iterator

import numpy as np

from fnn.diagnose.data_rules import EXAMPLES_PER_CLASS, Check, format_first, statistics
from fnn.diagnose.findings import INFO, WARNING, Finding, Rule
from fnn.diagnose.heads import VALUES, Head, loss_name

IMBALANCE = 10  # ratio of the largest class to the smallest
MIN_PERPLEXITY = 0.5  # of the labels, 1 if all classes are equally frequent and 0 if one is alone
SORTED_SHARE = 0.1  # of the changes of label that a random order has
LARGE_TARGETS = 100.0  # mean or deviation of the targets of a regression

OFFSET = Rule(
    "P01",
    "label_offset",
    "UMLAUT [Schoop et al. 2021]",
    ("labels count from 1", "the network has an output too many"),
    ("subtract 1 from the labels, and give the network one output less",),
    "print numpy.unique(labels)",
)
TARGETS = Rule(
    "P02",
    "unnormalized_targets",
    "fnn",
    ("targets are in their physical unit",),
    ("divide the targets by their deviation, and multiply predictions by it",),
    "train with standardized targets",
)
IMBALANCED = Rule(
    "P03",
    "class_imbalance",
    "SageMaker Debugger: ratio 10; TheDeepChecker: perplexity 0.5",
    ("the classes are of different frequency",),
    (
        "weigh the classes, as by objective.class_weighted",
        "report balanced accuracy: the share of the largest class is no achievement",
    ),
    "compare the accuracy with the share of the largest class",
)
ORDER = Rule(
    "P03",
    "label_order",
    "fnn",
    ("the data was split without shuffling", "files of one class follow each other"),
    ("shuffle before the split into training and validation, as by data.split",),
    "compare the counts of labels of training and validation",
)


def target_findings(head: Head) -> Iterator[Finding]:
    """Find targets of a regression that are far from the scale of a network's outputs.

    Args:
        head: A head, with arrays as targets.
    """
    targets = head.targets
    is_array = hasattr(targets, "dtype")
    if loss_name(head.loss) not in VALUES or not is_array:
        return
    columns = statistics(np.asarray(targets, np.float32))
    size = np.maximum(np.abs(columns.mean), columns.deviation)
    worst = int(size.argmax())
    if not size[worst] > LARGE_TARGETS:
        return
    mean = float(columns.mean[worst])
    deviation = float(columns.deviation[worst])
    yield TARGETS.finding(
        WARNING,
        f"targets have mean {mean:.4g}, deviation {deviation:.4g}, far from those of the outputs",
        {"mean": mean, "deviation": deviation},
        f"mean or deviation > {LARGE_TARGETS:g}",
        layer=head.where,
    )


def check_labels(head: Head) -> Check | None:
    """Check the counts of labels; None where targets are no labels, or too few.

    Args:
        head: A head, with arrays as targets.
    """
    classes = head.classes
    if classes is None or not head.is_labeled or not head.loss.classes:
        return None
    kept = _kept_labels(head)
    # Few labels are unbalanced by chance.
    if len(kept) < EXAMPLES_PER_CLASS * classes:
        return None
    counts = np.bincount(kept, minlength=classes)
    interval = f"{counts.min():,} to {counts.max():,}"
    facts = f"labels of {classes} classes, {interval} examples each"
    found = [*_offset_findings(head, counts), *_balance_findings(head, counts, facts)]
    return Check(facts, tuple(found))


def _kept_labels(head: Head) -> np.ndarray:
    """Return the labels that the loss does not ignore."""
    labels = np.asarray(head.targets)
    is_ignored = np.isin(labels, list(head.loss.ignored))
    kept: np.ndarray = labels[~is_ignored]
    return kept


def _offset_findings(head: Head, counts: np.ndarray) -> Iterator[Finding]:
    is_offset = counts[0] == 0 and counts[1:].min() > 0
    last = len(counts) - 1
    if is_offset and last > 1:
        title = f"class 0 has no example, while classes 1 to {last} have"
        measured = {"counts": counts.tolist()}
        yield OFFSET.finding(WARNING, title, measured, "no label 0", layer=head.where)


def _balance_findings(head: Head, counts: np.ndarray, facts: str) -> Iterator[Finding]:
    used = counts[counts > 0]
    missing = len(counts) - len(used)
    shares = used / used.sum()
    terms = shares * np.log(shares)
    # exp(entropy) is the number of equally frequent classes of this entropy; scaled to [0, 1].
    equal_classes = np.exp(-terms.sum())
    perplexity = float((equal_classes - 1) / max(len(used) - 1, 1))
    ratio = float(used.max() / used.min())
    majority = float(shares.max())
    measured = {
        "ratio": ratio,
        "perplexity": perplexity,
        "majority": majority,
    }
    if ratio > IMBALANCE or perplexity < MIN_PERPLEXITY:
        yield IMBALANCED.finding(
            WARNING,
            f"{facts}; the largest class alone has {majority:.1%}",
            measured,
            f"ratio > {IMBALANCE}, or perplexity < {MIN_PERPLEXITY}",
            layer=head.where,
        )
    # A single empty first class is an offset, which has a finding of its own.
    elif missing > 1 or (missing == 1 and counts[0] > 0):
        empty = np.flatnonzero(counts == 0)
        title = f"{missing} of {len(counts)} classes have no example, such as {format_first(empty)}"
        yield IMBALANCED.finding(
            INFO,
            title,
            measured | {"classes": empty.tolist()},
            "no example",
            layer=head.where,
            advice=("give the network one output for each class that has examples",),
        )


def order_findings(head: Head, valid: Head | None) -> Iterator[Finding]:
    """Find sorted labels, and classes that validation or training has alone.

    Args:
        head: A head, with the targets of training.
        valid: The same head with those of validation, or None.
    """
    if not head.is_labeled or not head.loss.classes:
        return
    labels = _kept_labels(head)
    if valid is not None:
        yield from _missing_findings(head, labels, _kept_labels(valid))
    if len(labels) < 2:
        return
    shares = np.bincount(labels - labels.min()) / len(labels)
    # In a random order, neighbors differ with this probability.
    expected = float(1 - np.square(shares).sum())
    is_change = np.diff(labels) != 0
    changes = float(is_change.mean())
    is_enough = len(labels) * expected >= EXAMPLES_PER_CLASS
    if is_enough and changes < SORTED_SHARE * expected:
        title = f"neighbors have different labels in {changes:.1%} of cases, of {expected:.1%}"
        title += " in a random order: the examples are sorted; a run over arrays shuffles them"
        measured = {"changes": changes, "expected": expected}
        yield ORDER.finding(
            INFO,
            title,
            measured,
            f"changes < {SORTED_SHARE} of those of a random order",
            layer=head.where,
        )


def _missing_findings(head: Head, labels: np.ndarray, others: np.ndarray) -> Iterator[Finding]:
    parts = {"training": labels, "validation": others}
    for name, other in (("training", "validation"), ("validation", "training")):
        classes, counts = np.unique(parts[other], return_counts=True)
        shares = counts / counts.sum()
        # Fewer examples of a rare class may be missing by chance.
        is_frequent = shares * len(parts[name]) >= EXAMPLES_PER_CLASS
        is_missing = ~np.isin(classes, parts[name])
        is_lacking = is_frequent & is_missing
        if not is_lacking.any():
            continue
        lacking = classes[is_lacking]
        share = float(shares[is_lacking].sum())
        shown = format_first(lacking)
        yield ORDER.finding(
            WARNING,
            f"{name} lacks classes that are {share:.1%} of {other}, such as {shown}",
            {"share": share, "classes": lacking.tolist()},
            f"{EXAMPLES_PER_CLASS} examples expected, none found",
            layer=head.where,
        )
