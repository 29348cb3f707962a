"""Street View House Numbers, cropped to one digit each."""

from pathlib import Path

import numpy as np

from fnn.data.sets.dataset import ANEW, DataSet, labeled, rearranged
from fnn.data.sets.mat import variables
from fnn.data.sets.published import contents
from fnn.errors import DatasetFormatError

SIZE, CHANNELS, CLASSES = 32, 3, 10
MOST = 73_257  # images, of which there are that many to train


def svhn(directory: str | Path | None = None) -> DataSet:
    """99,289 house numbers, a digit each: images uint8 (n, 32, 32, 3), labels int32 (n,), the last 26,032 to test.

    Read from train_32x32.mat and test_32x32.mat in the directory; fewer examples will do. Without a directory they are
    fetched once, as `mnist` is, with the same errors. The label of digit 0, which the files call 10, is 0
    [Netzer et al. 2011, "Reading Digits in Natural Images with Unsupervised Feature Learning"].
    """
    held = contents("svhn", directory)
    return DataSet(
        *(_part(f"svhn {name}", held.pop(name)) for name in ("train_32x32.mat", "test_32x32.mat"))
    )


def _part(where: str, stored: bytes) -> tuple[np.ndarray, np.ndarray]:
    found = variables(where, stored, {"X": MOST * SIZE * SIZE * CHANNELS, "y": MOST})
    (shape, pixels), (_, labels) = found["X"], found["y"]
    if shape[:-1] != (SIZE, SIZE, CHANNELS):
        raise DatasetFormatError(
            f"{where} X", f"the shape ({SIZE}, {SIZE}, {CHANNELS}, n)", shape, ANEW
        )
    if labels.min(initial=1) == 0:
        raise DatasetFormatError(f"{where} y", f"labels from 1 to {CLASSES}", 0, ANEW)
    # Column after column: in C's order (n, channels, columns, rows).
    images = rearranged(pixels.reshape(shape[::-1]), 0, 3, 2, 1)
    return labeled(f"{where} y", images, np.where(labels == CLASSES, 0, labels), CLASSES)
