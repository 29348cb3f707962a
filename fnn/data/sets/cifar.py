"""CIFAR-10 and CIFAR-100, from their binary versions."""

from math import prod
from pathlib import Path

import numpy as np

from fnn import checks
from fnn.data.sets.dataset import ANEW, DataSet, labeled, rearranged
from fnn.data.sets.published import BATCHES, contents
from fnn.errors import DatasetFormatError

IMAGE = (3, 32, 32)  # the reds, the greens and the blues, row by row
# The labels at the begin of each record, and how many classes each has.
CLASSES = {"cifar10": {"classes": 10}, "cifar100": {"coarse": 20, "fine": 100}}


def cifar10(directory: str | Path | None = None) -> DataSet:
    """60,000 photographs of ten classes: images uint8 (n, 32, 32, 3), labels int32 (n,), the last 10,000 to test.

    Read from the directory: cifar-10-binary.tar.gz as it is, or unpacked data_batch_1.bin to data_batch_5.bin and
    test_batch.bin; fewer examples will do. Without a directory it is fetched once, as `mnist` is, with the same errors.
    The version for Python, which could run anything, is not read [Krizhevsky 2009, "Learning Multiple Layers of
    Features from Tiny Images"].
    """
    held = contents("cifar10", directory)
    parts = BATCHES[:5], BATCHES[5:]
    return DataSet(
        *(_part("cifar10", {name: held.pop(name) for name in names}, "classes") for names in parts)
    )


def cifar100(directory: str | Path | None = None, *, labels: str = "fine") -> DataSet:
    """60,000 photographs of 100 "fine" classes or of the 20 "coarse" ones these belong to, else as `cifar10`.

    Read from the directory: cifar-100-binary.tar.gz as it is, or unpacked train.bin and test.bin. ConfigError for other
    labels [Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"].
    """
    checks.choice("cifar100 labels", labels, tuple(CLASSES["cifar100"]))
    held = contents("cifar100", directory)
    return DataSet(
        *(_part("cifar100", {name: held.pop(name)}, labels) for name in ("train.bin", "test.bin"))
    )


def _part(release: str, files: dict[str, bytes], labels: str) -> tuple[np.ndarray, np.ndarray]:
    parts = [
        _pair(f"{release} {name}", held, CLASSES[release], labels) for name, held in files.items()
    ]
    planes, found = (np.concatenate(both) for both in zip(*parts, strict=True))
    return rearranged(planes.reshape(-1, *IMAGE), 0, 2, 3, 1), found


def _pair(
    where: str, stored: bytes, kinds: dict[str, int], labels: str
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels uint8 (n, 3072) and the labels of one file."""
    record = len(kinds) + prod(IMAGE)
    if len(stored) == 0 or len(stored) % record:
        raise DatasetFormatError(
            where, f"whole records of {record:,} bytes", f"{len(stored):,} bytes", ANEW
        )
    records = np.frombuffer(stored, np.uint8).reshape(-1, record)
    return labeled(
        where, records[:, len(kinds) :], records[:, list(kinds).index(labels)], kinds[labels]
    )
