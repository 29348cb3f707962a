"""Rules on the inputs of a run: finite numbers, range, constant features.

They read the data on the host and compile nothing.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.diagnose.findings import ERROR, INFO, WARNING, Finding, Rule

RANGE_EXAMPLES = 1024  # of which the range of the inputs is computed,
RANGE_NUMBERS = 2**24  # unless these are too large
SMALL_RANGE = 1.5  # largest number of inputs that need no further scaling
MEAN_LIMIT = 0.5  # of standardized inputs
DEVIATION_LIMITS = (0.5, 2.0)  # of standardized inputs
LARGE = 10.0  # root mean square of a column above which it dominates
MODERATE = 3.0  # root mean square of all numbers above which they are not normalized
FADED = 0.05  # largest number below which the inputs were scaled down twice
SHOWN_CHANNELS = 4  # channels whose mean and deviation are given as numbers to use
EXAMPLES_PER_CLASS = 20  # fewer are too few to judge the balance of labels

NONFINITE = Rule(
    "P01",
    "nonfinite_data",
    "UMLAUT [Schoop et al. 2021]; AutoTrainer [Zhang et al. 2021]",
    ("a division by zero or a logarithm in prepare", "missing values in the data"),
    ("drop or fill the examples", "guard divisions and logarithms"),
    "count the numbers of recipe.prepare(inputs) that are not finite",
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
    low = float(columns.low.min())
    high = float(columns.high.max())
    largest = max(abs(low), abs(high))
    least, most = DEVIATION_LIMITS
    is_standardized = abs(mean) <= MEAN_LIMIT and least <= deviation <= most
    rms = columns.rms
    # One column of large numbers hides among many.
    worst = int(rms.argmax())
    is_dominated = rms[worst] > LARGE
    size = np.hypot(mean, deviation)
    # Numbers of either kind train well: in a small interval, or with a deviation near 1.
    is_large = largest > SMALL_RANGE and size > MODERATE and not is_standardized
    is_faded = 0 < largest < FADED
    if is_faded:
        threshold = f"largest number < {FADED}"
        title = f"{facts}: scaled down twice"
        advice = ("scale once: the default prepare divides bytes by 255", *_remedy(columns))
    elif is_dominated or is_large:
        threshold = f"root mean square of a column > {LARGE:g}, or of all > {MODERATE:g}"
        title = f"{facts}: not normalized"
        if len(rms) > 1 and is_dominated:
            worst_mean = columns.mean[worst]
            worst_deviation = columns.deviation[worst]
            title += f"; column {worst} has mean {worst_mean:.3g}, deviation {worst_deviation:.3g}"
        advice = _remedy(columns)
    else:
        return
    measured = {
        "mean": columns.mean.tolist(),
        "deviation": columns.deviation.tolist(),
        "low": low,
        "high": high,
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
    # A constant channel has no deviation to divide by.
    scales = np.where(columns.deviation > 0, columns.deviation, 1)
    mean = _format_row(columns.mean)
    deviation = _format_row(scales)
    return (f"subtract the mean {mean} and divide by the deviation {deviation} in prepare",)


def _format_row(values: np.ndarray) -> str:
    texts = [f"{value:.4g}" for value in values]
    joined = ", ".join(texts)
    return f"[{joined}]"


def _constant_findings(path: str, x: np.ndarray, columns: Columns) -> Iterator[Finding]:
    # Channels of images and steps of sequences are no features of a table.
    if x.ndim != 2 or len(x) < 2:
        return
    constant = np.flatnonzero(columns.low == columns.high)
    if not 0 < len(constant) < len(columns.mean):
        return
    shown = format_first(constant)
    title = f"{len(constant)} of {x.shape[1]} columns of {path} are constant, such as {shown}"
    measured = {"columns": constant.tolist()}
    yield CONSTANT.finding(INFO, title, measured, "deviation = 0", layer=path)


def format_first(indices: np.ndarray) -> str:
    """Format the first of some indices or labels."""
    first = indices[:SHOWN_CHANNELS].tolist()
    texts = map(str, first)
    return ", ".join(texts)


def shift_findings(path: str, train: Any, valid: Any) -> Iterator[Finding]:
    """Find validation inputs of another scale than those of training.

    Args:
        path: Name of the array.
        train: Prepared examples of training (n, ...).
        valid: Prepared examples of validation (m, ...).
    """
    x = np.asarray(train, np.float32)
    valid_x = np.asarray(valid, np.float32)
    # Another rule reports numbers that are not finite.
    if not (np.isfinite(x).all() and np.isfinite(valid_x).all()):
        return
    mean, deviation = statistics(x).whole()
    valid_mean, valid_deviation = statistics(valid_x).whole()
    if deviation == 0:
        return
    shift = (valid_mean - mean) / deviation
    ratio = valid_deviation / deviation
    # The mean of few examples is uncertain.
    limit = MEAN_LIMIT + 3 / np.sqrt(len(valid))
    low, high = DEVIATION_LIMITS
    is_scaled_alike = low <= ratio <= high or len(valid) < EXAMPLES_PER_CLASS
    if abs(shift) <= limit and is_scaled_alike:
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


def count_range_examples(inputs: Any) -> int:
    """Return the number of examples of which the range of the inputs is computed."""
    return min(RANGE_EXAMPLES, max(1, RANGE_NUMBERS // numbers_of_example(inputs)))


def numbers_of_example(inputs: Any) -> int:
    """Return the number of numbers of an example, at least 1."""
    leaves = jax.tree.leaves(inputs)
    sizes = [int(np.prod(leaf.shape[1:])) for leaf in leaves]
    return max(1, sum(sizes))


def spaced(array: np.ndarray, count: int) -> np.ndarray:
    """Return at most this number of examples, evenly spaced, so that sorted ones are all met."""
    last = len(array) - 1
    places = np.linspace(0, last, min(count, len(array)))
    return array[places.astype(int)]


def named_arrays(tree: Any) -> dict[str, Any]:
    """Return the arrays of inputs by path, "inputs" for a single one."""
    return trees.named_leaves({"inputs": tree})
