"""The notes of a saved estimator: names and shapes, as a value of JSON."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fnn.errors import CheckpointMismatchError, ConfigError
from fnn.types import Shape

# Kinds of NumPy's dtypes, of inputs and of classes. No other dtype is read from a file.
INPUT_KINDS = "iuf"
CLASS_KINDS = "biufU"
TEXT = "object"  # classes that are Python strings


class Notes(NamedTuple):
    """Everything about a fitted estimator that is not an array.

    Attributes:
        estimator: Name of its class.
        input_shape: Shape of one example.
        input_dtype: Dtype that inputs are converted to.
        feature_names: Names of the columns; None if X had none.
        steps: Number of steps of the run; None after partial_fit.
        targets: Facts about the targets.
    """

    estimator: str
    input_shape: Shape
    input_dtype: str
    feature_names: list[str] | None
    steps: int | None
    targets: dict[str, Any]


def write_notes(notes: Notes) -> dict[str, Any]:
    """Return the notes as a value of JSON, which has no tuples."""
    return notes._asdict() | {"input_shape": list(notes.input_shape)}


def read_notes(
    where: str,
    estimator: str,
    notes: Any,
) -> Notes:
    """Check notes from a file; CheckpointMismatchError if they are not those of an estimator.

    Args:
        where: Name of the file in errors.
        estimator: Name of the class that reads them.
        notes: Any value of JSON.
    """
    # The file may hold any value of JSON.
    saved = notes.get("estimator") if isinstance(notes, Mapping) else None
    if saved != estimator:
        got = "another checkpoint" if saved is None else f"a {saved}"
        advice = "load it with the class that saved it"
        raise CheckpointMismatchError(
            where,
            f"a saved {estimator}",
            got,
            advice,
        )
    try:
        read = Notes(**notes)._replace(input_shape=tuple(map(int, notes["input_shape"])))
        # A dtype that is no number, or no shape, is a damaged file.
        is_known = np.dtype(read.input_dtype).kind in INPUT_KINDS and len(read.input_shape) > 0
    except (KeyError, TypeError, ValueError):
        is_known = False
    if not is_known:
        raise _unknown_notes(where)
    return read


def pack_classes(where: str, classes: np.ndarray) -> dict[str, Any]:
    """Return classes as a value of JSON; ConfigError unless they are numbers or strings."""
    # Labels that are strings come as objects.
    is_text = classes.dtype.kind == "O" and all(isinstance(label, str) for label in classes)
    if not is_text and classes.dtype.kind not in CLASS_KINDS:
        advice = "fit to labels that are strings or integers"
        raise ConfigError(
            where,
            "classes that are numbers or strings",
            classes.dtype,
            advice,
        )
    return {"dtype": TEXT if is_text else classes.dtype.str, "labels": classes.tolist()}


def unpack_classes(where: str, packed: Any) -> np.ndarray:
    """Return the classes; CheckpointMismatchError if these are none."""
    try:
        dtype = np.dtype(packed["dtype"])
        classes = np.array(packed["labels"], dtype)
        is_text = packed["dtype"] == TEXT and all(isinstance(label, str) for label in classes)
        is_known = is_text or dtype.kind in CLASS_KINDS
    except (KeyError, TypeError, ValueError, OverflowError):
        is_known = False
    if not is_known or classes.ndim != 1:
        raise _unknown_notes(where)
    return classes


def _unknown_notes(where: str) -> CheckpointMismatchError:
    expected = "notes as an estimator saves them"
    return CheckpointMismatchError(
        where,
        expected,
        "others",
        "save the estimator again",
    )
