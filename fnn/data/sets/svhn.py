"""Street View House Numbers (SVHN), cropped to one digit each."""

from pathlib import Path

import numpy as np

from fnn.data.sets.dataset import REPLACE, DataSet, labeled, transpose_in_place
from fnn.data.sets.mat import variables
from fnn.data.sets.published import read_release
from fnn.errors import DatasetFormatError

SIDE = 32  # pixels
CHANNELS = 3
CLASSES = 10
MAX_IMAGES = 73_257  # the number of training images
TRAIN = "train_32x32.mat"
TEST = "test_32x32.mat"


def svhn(directory: str | Path | None = None) -> DataSet:
    """Load Street View House Numbers: 99,289 color photographs of one digit each.

    The files label the digit 0 as 10; here its label is 0 [Netzer et al. 2011, "Reading Digits in
    Natural Images with Unsupervised Feature Learning"].

    Args:
        directory: Directory with train_32x32.mat and test_32x32.mat; the files may hold fewer
            examples. None: they are downloaded once, to $FNN_DATA or the user's cache.

    Returns:
        73,257 training and 26,032 test examples: images uint8 (n, 32, 32, 3), labels int32 (n,).

    Raises:
        ConfigError: The directory lacks a file.
        DatasetFormatError: A file has another format.
        DatasetIntegrityError: A file is damaged, or the download is not the published file.
        DatasetUnavailableError: The download fails.
    """
    contents = read_release("svhn", directory)
    # pop frees the bytes of each file once it is parsed.
    train = _parse(TRAIN, contents.pop(TRAIN))
    test = _parse(TEST, contents.pop(TEST))
    return DataSet(train, test)


def _parse(name: str, stored: bytes) -> tuple[np.ndarray, np.ndarray]:
    where = f"svhn {name}"
    max_sizes = {"X": MAX_IMAGES * SIDE * SIDE * CHANNELS, "y": MAX_IMAGES}
    found = variables(where, stored, max_sizes)
    shape, pixels = found["X"]
    _, labels = found["y"]
    if shape[:-1] != (SIDE, SIDE, CHANNELS):
        expected = f"the shape ({SIDE}, {SIDE}, {CHANNELS}, n)"
        raise DatasetFormatError(f"{where} X", expected, shape, REPLACE)
    if labels.min(initial=1) == 0:
        raise DatasetFormatError(
            f"{where} y",
            f"labels from 1 to {CLASSES}",
            0,
            REPLACE,
        )
    # In MATLAB the first axis varies fastest: in C order (n, channels, columns, rows).
    planes = pixels.reshape(shape[::-1])
    images = transpose_in_place(planes, 0, 3, 2, 1)
    digits = np.where(labels == CLASSES, 0, labels)
    return labeled(f"{where} y", images, digits, CLASSES)
