"""True classes and class names, for the plots of classifiers."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.data.preprocessing import plain_array
from fnn.errors import ConfigError, LabelError, NonFiniteError, ShapeError
from fnn.lab.plots.figure import drawable
from fnn.objective.metrics.labels import expect_labels
from fnn.types import Labels, Logits

MAX_LENGTH = 14  # columns of a name in the title of an image


def true_classes(
    where: str,
    logits: Logits,
    labels: Labels,
) -> np.ndarray:
    """Return the true class of each row of logits, on the host.

    Raises:
        ShapeError: The logits are not (n, classes), or the labels do not fit them.
        DTypeError: The labels are not integers or probabilities.
        NonFiniteError: The logits are not finite.
        LabelError: A label is outside of 0 <= label < classes.
    """
    logits = _numbers(f"{where} logits", logits)
    labels = _numbers(f"{where} labels", labels)
    if logits.ndim < 2 or not logits.size:
        raise ShapeError(
            f"{where} logits",
            "(n, classes)",
            logits.shape,
            "give what train.predict returns",
        )
    # Probabilities become their most probable class.
    truth = np.asarray(expect_labels(logits, labels))
    classes = logits.shape[-1]
    # argmax would return the index of a NaN.
    if not jnp.isfinite(logits).all():
        raise NonFiniteError(
            f"{where} logits",
            "finite numbers",
            "others",
            "find the layer whose outputs are not finite",
        )
    wrong = np.argwhere((truth < 0) | (truth >= classes))
    if wrong.size:
        # Only the first wrong label is reported.
        index = tuple(wrong[0].tolist())
        shown_index = index[0] if len(index) == 1 else index
        raise LabelError(
            f"{where} labels",
            f"0 <= label < {classes}",
            f"{truth[index]} at index {shown_index}",
            "leave out examples without a class",
        )
    return truth


def _numbers(where: str, values: Logits | Labels) -> jax.Array:
    """Return an array or a list as an array of JAX; DTypeError for text and masked arrays."""
    return jnp.asarray(plain_array(where, checks.as_array(where, values)))


def class_names(
    where: str,
    names: Sequence[str] | None,
    classes: int,
) -> list[str]:
    """Return the name of each class, or its number; ConfigError for another number of names."""
    if names is None:
        return [str(index) for index in range(classes)]
    # A str is a sequence of one-letter names.
    if isinstance(names, str) or len(names) != classes:
        raise ConfigError(
            f"{where} names",
            f"one for each of the {classes} classes",
            repr(names),
            "give them in order",
        )
    # New lines are drawn as such.
    return ["\n".join(map(drawable, str(name).split("\n"))) for name in names]


def shorten(name: str, width: int = MAX_LENGTH) -> str:
    """Cut the middle out of a long name, since similar names often differ at their ends.

    Args:
        name: The name.
        width: Columns that remain at most. Letters of Chinese, Japanese and Korean take two.
    """
    if text_width(name) <= width:
        return name
    head, tail = name, name
    while text_width(head) > width // 2:
        head = head[:-1]
    while text_width(tail) > width - 1 - text_width(head):
        tail = tail[1:]
    return f"{head}…{tail}"


def shorten_all(names: Sequence[str], width: int) -> list[str]:
    """Shorten names. Those that become equal get their index, so that all differ."""
    short = [shorten(name, width) for name in names]
    counts = Counter(short)
    for index, name in enumerate(names):
        if counts[short[index]] > 1 and name != short[index]:
            number = f" {index}"
            short[index] = shorten(name, width - len(number)) + number
    return short


def text_width(text: str) -> int:
    """Return the number of columns of a text."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)
