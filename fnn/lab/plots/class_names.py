"""What pictures of a classifier share: the true classes, and what they are called."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from fnn.errors import ConfigError, LabelError, NonFiniteError, ShapeError
from fnn.objective.metrics.per_example import expect_labels
from fnn.types import Labels, Logits

WIDE = 12  # letters


def true_classes(where: str, logits: Logits, labels: Labels) -> np.ndarray:
    """The true class of each row of finite logits, on the host; an error of fnn unless all rows have one."""
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if logits.ndim < 2 or not logits.size:
        raise ShapeError(
            f"{where} logits", "(n, classes)", logits.shape, "give what train.predict returns"
        )
    truth, classes = np.asarray(expect_labels(logits, labels)), logits.shape[-1]
    if not jnp.isfinite(logits).all():
        advice = "see where the network's outputs are lost"
        raise NonFiniteError(f"{where} logits", "finite numbers", "others", advice)
    wrong = np.argwhere((truth < 0) | (truth >= classes))
    if wrong.size:
        place = tuple(wrong[0].tolist())
        got = f"{truth[place]} at index {place[0] if len(place) == 1 else place}"
        raise LabelError(
            f"{where} labels", f"0 <= label < {classes}", got, "leave out what is of no class"
        )
    return truth


def class_names(where: str, names: Sequence[str] | None, classes: int) -> list[str]:
    """The names of so many classes, their numbers if none are given; ConfigError for more or fewer."""
    if names is None:
        return [str(place) for place in range(classes)]
    if isinstance(names, str) or len(names) != classes:
        raise ConfigError(
            f"{where} names",
            f"one for each of the {classes} classes",
            repr(names),
            "give them in order",
        )
    return [str(name) for name in names]


def shortened(name: str) -> str:
    """The name, or the beginning of a long one, to stand above an image."""
    return name if len(name) <= WIDE else f"{name[: WIDE - 1]}…"
