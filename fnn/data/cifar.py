"""CIFAR-10 from its own files."""

from pathlib import Path

import numpy as np

from fnn.data.digits import DataSet
from fnn.errors import ConfigError

PARTS = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
SIZE, CHANNELS, CLASSES = 32, 3, 10
RECORD = 1 + CHANNELS * SIZE * SIZE  # bytes: the label, then the reds, the greens and the blues, row by row


def cifar10(directory: str | Path) -> DataSet:
    """60,000 photographs of ten classes: images uint8 (n, 32, 32, 3), labels int32 (n,), the last 10,000 to test.

    Read from the binary version of the data set, unpacked: data_batch_1.bin to data_batch_5.bin and test_batch.bin; a
    file may hold fewer records. ConfigError for a file that is missing, is not of whole records, or has another label
    [Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"].
    """
    folder = Path(directory)
    missing = [name for names in PARTS.values() for name in names if not (folder / name).is_file()]
    if missing:
        advice = "unpack the binary version of CIFAR-10 there"
        raise ConfigError("cifar10 directory", f"the files {', '.join(missing)}", f"{folder} without them", advice)
    return DataSet(*(_read([folder / name for name in names]) for names in PARTS.values()))


def _read(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    records = np.concatenate([_records(path) for path in paths])
    images = records[:, 1:].reshape(-1, CHANNELS, SIZE, SIZE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int32)


def _records(path: Path) -> np.ndarray:
    """The records of one file, uint8 (n, 3073)."""
    found = np.fromfile(path, np.uint8)
    if found.size == 0 or found.size % RECORD:
        raise ConfigError(
            f"cifar10 {path.name}", f"whole records of {RECORD:,} bytes", f"{found.size:,} bytes", "get it anew"
        )
    records = found.reshape(-1, RECORD)
    if records[:, 0].max() >= CLASSES:
        raise ConfigError(f"cifar10 {path.name}", f"labels below {CLASSES}", records[:, 0].max(), "get it anew")
    return records
