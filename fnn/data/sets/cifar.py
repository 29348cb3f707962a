"""CIFAR-10 and CIFAR-100, read from their binary versions."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from fnn import checks
from fnn.data.sets.dataset import REPLACE, DataSet, labeled, transpose_in_place
from fnn.data.sets.published import CIFAR10_TEST, CIFAR10_TRAIN, read_release
from fnn.errors import DatasetFormatError

# A record is one byte for each kind of label, then the image: channel after channel, row by row.
IMAGE_SHAPE = (3, 32, 32)
# The kinds of labels in the order of their bytes, and the number of classes of each.
CLASSES = {"cifar10": {"classes": 10}, "cifar100": {"coarse": 20, "fine": 100}}


def cifar10(directory: str | Path | None = None) -> DataSet:
    """Load CIFAR-10: 60,000 color photographs of ten classes.

    The pickled version for Python is not read, because unpickling can run any code [Krizhevsky
    2009, "Learning Multiple Layers of Features from Tiny Images"].

    Args:
        directory: Directory with cifar-10-binary.tar.gz, or with data_batch_1.bin to
            data_batch_5.bin and test_batch.bin from it; the files may hold fewer examples. None:
            the archive is downloaded once, to $FNN_DATA or the user's cache.

    Returns:
        50,000 training and 10,000 test examples: images uint8 (n, 32, 32, 3), labels int32 (n,).

    Raises:
        ConfigError: The directory lacks a file.
        DatasetFormatError: A file has another format.
        DatasetIntegrityError: A file is damaged, or the download is not the published file.
        DatasetUnavailableError: The download fails.
    """
    contents = read_release("cifar10", directory)
    train = _read_part("cifar10", contents, CIFAR10_TRAIN, "classes")
    test = _read_part("cifar10", contents, CIFAR10_TEST, "classes")
    return DataSet(train, test)


def cifar100(directory: str | Path | None = None, *, labels: str = "fine") -> DataSet:
    """Load CIFAR-100: 60,000 color photographs of 100 classes in 20 superclasses.

    [Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"].

    Args:
        directory: Directory with cifar-100-binary.tar.gz, or with train.bin and test.bin from it;
            the files may hold fewer examples. None: the archive is downloaded once, to $FNN_DATA or
            the user's cache.
        labels: "fine" for the 100 classes, "coarse" for the 20 superclasses.

    Returns:
        50,000 training and 10,000 test examples: images uint8 (n, 32, 32, 3), labels int32 (n,).

    Raises:
        ConfigError: `labels` is another word, or the directory lacks a file.
        DatasetFormatError: A file has another format.
        DatasetIntegrityError: A file is damaged, or the download is not the published file.
        DatasetUnavailableError: The download fails.
    """
    checks.choice("cifar100 labels", labels, tuple(CLASSES["cifar100"]))
    contents = read_release("cifar100", directory)
    train = _read_part("cifar100", contents, ["train.bin"], labels)
    test = _read_part("cifar100", contents, ["test.bin"], labels)
    return DataSet(train, test)


def _read_part(
    release: str,
    contents: dict[str, bytes],
    names: Sequence[str],
    labels: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Parse and join the files of these names, which are removed from `contents`."""
    all_planes = []
    all_labels = []
    for name in names:
        # The arrays are views of these bytes. Once removed, the bytes are freed on return.
        stored = contents.pop(name)
        planes, file_labels = _parse(f"{release} {name}", stored, CLASSES[release], labels)
        all_planes.append(planes)
        all_labels.append(file_labels)
    # (n, channels, height, width) to (n, height, width, channels)
    planes = np.concatenate(all_planes).reshape(-1, *IMAGE_SHAPE)
    images = transpose_in_place(planes, 0, 2, 3, 1)
    return images, np.concatenate(all_labels)


def _parse(
    where: str,
    stored: bytes,
    classes: dict[str, int],
    labels: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels uint8 (n, 3072) and the labels of one file."""
    label_bytes = len(classes)
    record_bytes = label_bytes + prod(IMAGE_SHAPE)
    if len(stored) == 0 or len(stored) % record_bytes:
        expected = f"whole records of {record_bytes:,} bytes"
        raise DatasetFormatError(where, expected, f"{len(stored):,} bytes", REPLACE)
    records = np.frombuffer(stored, np.uint8).reshape(-1, record_bytes)
    # The labels of one kind are one column of the records.
    column = list(classes).index(labels)
    pixels = records[:, label_bytes:]
    values = records[:, column]
    return labeled(where, pixels, values, classes[labels])
