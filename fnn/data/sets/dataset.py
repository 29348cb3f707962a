"""What a data set consists of."""

from typing import NamedTuple

import numpy as np

from fnn.errors import DatasetFormatError

ANEW = "get it anew"


class DataSet(NamedTuple):
    """Two parts of a data set, each (inputs, targets), arrays whose first axis is the example."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


class Labeled(NamedTuple):
    """Examples (inputs, targets), and what the classes are called; none where the targets are numbers."""

    examples: tuple[np.ndarray, np.ndarray]
    classes: tuple[str, ...]


def labeled(
    where: str, images: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The images and their labels as int32, if there are some, as many of both, and each label names a class."""
    if len(images) == 0 or len(images) != len(labels):
        expected = "images, and a label for each"
        raise DatasetFormatError(
            where, expected, f"{len(images):,} images and {len(labels):,} labels", ANEW
        )
    if labels.max() >= classes:
        index = int((labels >= classes).argmax())
        raise DatasetFormatError(
            where, f"labels below {classes}", f"{labels[index]} at index {index:,}", ANEW
        )
    return images, labels.astype(np.int32)


def rearranged(planes: np.ndarray, *axes: int) -> np.ndarray:
    """The examples with their axes in this order, of which the examples' own, 0, is first, in the memory they have."""
    moved = planes.reshape([planes.shape[axis] for axis in axes])
    for start in range(0, len(planes), 1000):
        moved[start : start + 1000] = planes[start : start + 1000].transpose(axes).copy()
    return moved
