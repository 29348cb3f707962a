"""Types of loaded data sets, and checks of images and labels."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fnn.errors import ConfigError, DatasetFormatError

REPLACE = "replace it by an intact copy"  # the way out of most errors in a file
CHUNK = 1000  # examples


class DataSet(NamedTuple):
    """A data set with a fixed split.

    Attributes:
        train: Training examples (inputs, targets), arrays whose first axis is the example.
        test: Test examples (inputs, targets).
    """

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


class Labeled(NamedTuple):
    """Examples and the names of their classes.

    Attributes:
        examples: (inputs, targets), arrays whose first axis is the example.
        classes: Name of class i at index i; empty for numeric targets.
    """

    examples: tuple[np.ndarray, np.ndarray]
    classes: tuple[str, ...]


def labeled(
    where: str,
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (images, labels as int32), after a check of their counts and of each label."""
    if len(images) == 0 or len(images) != len(labels):
        got = f"{len(images):,} images and {len(labels):,} labels"
        raise DatasetFormatError(
            where,
            "images, and a label for each",
            got,
            REPLACE,
        )
    # Labels are bytes, so none is negative.
    if labels.max() >= classes:
        index = int((labels >= classes).argmax())
        got = f"{labels[index]} at index {index:,}"
        raise DatasetFormatError(where, f"labels below {classes}", got, REPLACE)
    return images, labels.astype(np.int32)


def transpose_in_place(planes: np.ndarray, *axes: int) -> np.ndarray:
    """Transpose each example within the memory of the array; the first axis must stay first."""
    shape = [planes.shape[axis] for axis in axes]
    moved = planes.reshape(shape)
    # A transposed copy of the whole array would double the memory of a data set.
    for start in range(0, len(planes), CHUNK):
        chunk = planes[start : start + CHUNK]
        moved[start : start + CHUNK] = chunk.transpose(axes).copy()
    return moved


def file_path(where: str, value: Any) -> Path:
    """Return the value as a path; ConfigError if it is none, or empty."""
    try:
        name = os.fsdecode(value)
    except (TypeError, ValueError):
        got = type(value).__name__
        raise ConfigError(where, "a path", got, 'give one, as in "data/train"') from None
    # Path("") would be the current directory.
    if not name:
        raise ConfigError(where, "a path", "empty text", 'give one; the current directory is "."')
    return Path(name)
