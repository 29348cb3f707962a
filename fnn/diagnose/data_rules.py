"""Rules on the data of a run: finite numbers, range, constant features, labels.

They read the data on the host and compile nothing.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.diagnose.findings import ERROR, INFO, WARNING, Finding, Rule
from fnn.diagnose.heads import VALUES, Head, loss_name

RANGE_EXAMPLES = 1024  # of which the range of the inputs is computed
SMALL_RANGE = 1.5  # largest number of inputs that need no further scaling
MEAN_LIMIT = 0.5  # of standardized inputs
DEVIATION_LIMITS = (0.5, 2.0)  # of standardized inputs
LARGE = 10.0  # root mean square of a column above which it dominates
MODERATE = 3.0  # root mean square of all numbers above which they are not normalized
FADED = 0.05  # largest number below which the inputs were scaled down twice
LARGE_TARGETS = 100.0  # mean or deviation of the targets of a regression
SHOWN_CHANNELS = 4  # channels whose mean and deviation are given as numbers to use
IMBALANCE = 10  # ratio of the largest class to the smallest
MIN_PERPLEXITY = 0.5  # of the labels, 1 if all classes are equally frequent and 0 if one is alone
EXAMPLES_PER_CLASS = 20  # fewer are too few to judge the balance of labels
SORTED_SHARE = 0.1  # of the changes of label that a random order has

NONFINITE = Rule(
    "P01",
    "nonfinite_data",
    "UMLAUT [Schoop et al. 2021]; AutoTrainer [Zhang et al. 2021]",
    ("a division by zero or a logarithm in prepare", "missing values in the data"),
    ("drop or fill the examples", "guard divisions and logarithms"),
    "count the numbers of recipe.prepare(inputs) that are not finite",
)
OFFSET = Rule(
    "P01",
    "label_offset",
    "UMLAUT [Schoop et al. 2021]",
    ("labels count from 1", "the network has an output too many"),
    ("subtract 1 from the labels, and give the network one output less",),
    "print numpy.unique(labels)",
)
RANGE = Rule(
    "P02",
    "unnormalized_inputs",
    "TheDeepChecker [Ben Braiek & Khomh 2023]; DLCheck",
    ("inputs are as they were measured", "bytes were converted without scaling"),
    ("give prepare=data.standardize(train_inputs)",),
    "train with standardized inputs",
)
CONSTANT = Rule(
    "P02",
    "constant_features",
    "TheDeepChecker [Ben Braiek & Khomh 2023]",
    ("a column without information", "a column that was parsed wrongly"),
    ("drop the columns",),
    "train without the columns",
)
SHIFT = Rule(
    "P02",
    "validation_scale",
    "fnn",
    ("training and validation are prepared differently", "they are from different sources"),
    ("prepare both by the recipe's prepare", "fit its numbers to training inputs alone"),
    "compare the mean of recipe.prepare(inputs) of both",
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


class Check(NamedTuple):
    """A check of cheap facts.

    Attributes:
        facts: The facts, as text.
        findings: The faults among them.
    """

    facts: str
    findings: tuple[Finding, ...]


class Columns(NamedTuple):
    """Statistics of the columns of inputs (n, ..., columns), or of one column.

    Attributes:
        mean: (columns,).
        deviation: (columns,).
        low: (columns,).
        high: (columns,).
    """

    mean: np.ndarray
    deviation: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def rms(self) -> np.ndarray:
        """The root mean square of each column."""
        return np.hypot(self.mean, self.deviation)

    def whole(self) -> tuple[float, float]:
        """Return mean and deviation over all columns."""
        mean = self.mean.mean()
        spread = np.square(self.mean - mean).mean()
        variance = np.square(self.deviation).mean()
        return float(mean), float(np.sqrt(variance + spread))


# Inputs.


def check_inputs(path: str, array: Any) -> Check | None:
    """Check the numbers of prepared inputs; None unless they are floating-point numbers.

    Args:
        path: Name of the array, such as "inputs".
        array: Examples (n, ...), as the network gets them.
    """
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return None
    x = np.asarray(array, np.float32)
    if not np.isfinite(x).all():
        return _check_finite(path, x)
    columns = statistics(x)
    low = float(columns.low.min())
    high = float(columns.high.max())
    mean, deviation = columns.whole()
    moments = f"mean {mean:.2g}, deviation {deviation:.2g}"
    facts = f"{path} in [{low:.3g}, {high:.3g}], {moments}"
    found = [*_range_findings(path, columns, facts), *_constant_findings(path, x, columns)]
    return Check(facts, tuple(found))


def _check_finite(path: str, x: np.ndarray) -> Check:
    wrong = ~np.isfinite(x)
    index = tuple(np.argwhere(wrong)[0].tolist())
    count = int(wrong.sum())
    facts = f"{path} have {count:,} numbers that are not finite, the first at index {index}"
    measured = {"count": count, "index": index}
    finding = NONFINITE.finding(ERROR, facts, measured, "any", layer=path)
    return Check(facts, (finding,))


def statistics(x: np.ndarray) -> Columns:
    """Return the statistics of the columns of an array (n, ..., columns)."""
    # (n, ..., columns) -> (rows, columns)
    rows = x.reshape(-1, x.shape[-1]) if x.ndim > 1 else x[:, None]
    return Columns(
        rows.mean(0, dtype=np.float64),
        rows.std(0, dtype=np.float64),
        rows.min(0),
        rows.max(0),
    )


def _range_findings(path: str, columns: Columns, facts: str) -> Iterator[Finding]:
    mean, deviation = columns.whole()
    largest = max(abs(float(columns.low.min())), abs(float(columns.high.max())))
    least, most = DEVIATION_LIMITS
    is_standardized = abs(mean) <= MEAN_LIMIT and least <= deviation <= most
    rms = columns.rms
    # One column of large numbers hides among many.
    worst = int(rms.argmax())
    is_large = rms[worst] > LARGE or np.hypot(mean, deviation) > MODERATE
    is_faded = 0 < largest < FADED
    if is_faded:
        threshold = f"largest number < {FADED}"
        title = f"{facts}: scaled down twice"
        advice = ("scale once: the default prepare divides bytes by 255", *_remedy(columns))
    elif largest > SMALL_RANGE and is_large and not (is_standardized and rms[worst] <= LARGE):
        threshold = f"root mean square of a column > {LARGE:g}, or of all > {MODERATE:g}"
        title = f"{facts}: not normalized"
        if len(rms) > 1 and rms[worst] > LARGE:
            title += f"; column {worst} has mean {columns.mean[worst]:.3g}"
            title += f", deviation {columns.deviation[worst]:.3g}"
        advice = _remedy(columns)
    else:
        return
    measured = {
        "mean": columns.mean.tolist(),
        "deviation": columns.deviation.tolist(),
        "low": float(columns.low.min()),
        "high": float(columns.high.max()),
    }
    yield RANGE.finding(
        WARNING,
        title,
        measured,
        threshold,
        layer=path,
        advice=advice,
    )


def _remedy(columns: Columns) -> tuple[str, ...]:
    """Return the numbers to normalize with, if they are few."""
    if len(columns.mean) > SHOWN_CHANNELS:
        return ()
    mean = ", ".join(f"{value:.4g}" for value in columns.mean)
    # A constant channel has no deviation to divide by.
    scales = np.where(columns.deviation > 0, columns.deviation, 1)
    deviation = ", ".join(f"{value:.4g}" for value in scales)
    return (f"subtract the mean [{mean}] and divide by the deviation [{deviation}] in prepare",)


def _constant_findings(path: str, x: np.ndarray, columns: Columns) -> Iterator[Finding]:
    # Channels of images and steps of sequences are no features of a table.
    if x.ndim != 2 or len(x) < 2:
        return
    constant = np.flatnonzero(columns.low == columns.high)
    if not 0 < len(constant) < len(columns.mean):
        return
    shown = ", ".join(map(str, constant[:SHOWN_CHANNELS].tolist()))
    title = f"{len(constant)} of {x.shape[1]} columns of {path} are constant, such as {shown}"
    measured = {"columns": constant.tolist()}
    yield CONSTANT.finding(INFO, title, measured, "deviation = 0", layer=path)


def shift_findings(path: str, train: Any, valid: Any) -> Iterator[Finding]:
    """Find validation inputs of another scale than those of training.

    Args:
        path: Name of the array.
        train: Prepared examples of training (n, ...).
        valid: Prepared examples of validation (m, ...).
    """
    arrays = np.asarray(train, np.float32), np.asarray(valid, np.float32)
    if not all(np.isfinite(array).all() for array in arrays):
        return
    mean, deviation = statistics(arrays[0]).whole()
    valid_mean, valid_deviation = statistics(arrays[1]).whole()
    if deviation == 0:
        return
    shift = (valid_mean - mean) / deviation
    ratio = valid_deviation / deviation
    # The mean of few examples is uncertain.
    limit = MEAN_LIMIT + 3 / np.sqrt(len(valid))
    low, high = DEVIATION_LIMITS
    is_alike = abs(shift) <= limit and (low <= ratio <= high or len(valid) < EXAMPLES_PER_CLASS)
    if is_alike:
        return
    of_train = f"mean {mean:.3g}, deviation {deviation:.3g} in training"
    of_valid = f"mean {valid_mean:.3g}, deviation {valid_deviation:.3g} in validation"
    yield SHIFT.finding(
        WARNING,
        f"{path} have {of_train}, {of_valid}",
        {"shift": shift, "ratio": ratio},
        f"|shift| > {limit:.2g} deviations, or ratio outside of [{low:g}, {high:g}]",
        layer=path,
    )


# Targets.


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
    labels = np.asarray(head.targets)
    kept = labels[~np.isin(labels, list(head.loss.ignored))]
    # Few labels are unbalanced by chance.
    if len(kept) < EXAMPLES_PER_CLASS * classes:
        return None
    counts = np.bincount(kept, minlength=classes)
    interval = f"{counts.min():,} to {counts.max():,}"
    facts = f"labels of {classes} classes, {interval} examples each"
    found = [*_offset_findings(head, counts), *_balance_findings(head, counts, facts)]
    return Check(facts, tuple(found))


def _offset_findings(head: Head, counts: np.ndarray) -> Iterator[Finding]:
    is_offset = counts[0] == 0 and counts[1:].min() > 0
    if is_offset and len(counts) > 2:
        title = f"class 0 has no example, while classes 1 to {len(counts) - 1} have"
        measured = {"counts": counts.tolist()}
        yield OFFSET.finding(WARNING, title, measured, "no label 0", layer=head.where)


def _balance_findings(head: Head, counts: np.ndarray, facts: str) -> Iterator[Finding]:
    used = counts[counts > 0]
    missing = len(counts) - len(used)
    shares = used / used.sum()
    entropy = -(shares * np.log(shares)).sum()
    perplexity = (np.exp(entropy) - 1) / max(len(used) - 1, 1)
    ratio = used.max() / used.min()
    majority = float(shares.max())
    measured = {"ratio": float(ratio), "perplexity": float(perplexity), "majority": majority}
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
        title = f"{missing} of {len(counts)} classes have no example"
        yield IMBALANCED.finding(INFO, title, measured, "no example", layer=head.where)


def order_findings(head: Head, valid: Head | None) -> Iterator[Finding]:
    """Find sorted labels, and classes that validation or training has alone.

    Args:
        head: A head, with the targets of training.
        valid: The same head with those of validation, or None.
    """
    if not head.is_labeled or not head.loss.classes:
        return
    labels = np.asarray(head.targets)
    if valid is not None:
        yield from _missing_findings(head, labels, np.asarray(valid.targets))
    shares = np.bincount(labels - labels.min()) / len(labels)
    # In a random order, neighbors differ with this probability.
    expected = 1 - np.square(shares).sum()
    changes = float((np.diff(labels) != 0).mean()) if len(labels) > 1 else 0.0
    is_enough = len(labels) * expected >= EXAMPLES_PER_CLASS
    if is_enough and changes < SORTED_SHARE * expected:
        title = f"neighbors have different labels in {changes:.1%} of cases, of {expected:.1%}"
        title += " in a random order: the examples are sorted; a run over arrays shuffles them"
        measured = {"changes": changes, "expected": float(expected)}
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
        lacking = classes[is_frequent & ~np.isin(classes, parts[name])]
        if not len(lacking):
            continue
        share = float(shares[np.isin(classes, lacking)].sum())
        shown = ", ".join(map(str, lacking[:SHOWN_CHANNELS].tolist()))
        yield ORDER.finding(
            WARNING,
            f"{name} lacks classes that are {share:.1%} of {other}, such as {shown}",
            {"share": share, "classes": lacking.tolist()},
            f"{EXAMPLES_PER_CLASS} examples expected, none found",
            layer=head.where,
        )


def named_arrays(tree: Any) -> dict[str, Any]:
    """Return the arrays of inputs by path, "inputs" for a single one."""
    return trees.named_leaves({"inputs": tree})
