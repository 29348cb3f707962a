"""Real images small enough to travel with the package."""

from importlib.resources import files

import numpy as np

from fnn.data.sets.dataset import DataSet

FOLDS = 5


def digits() -> DataSet:
    """1,797 handwritten digits in gray: images uint8 (n, 8, 8, 1), labels int32 (n,), 1,433 to train and 364 to test.

    Every fifth scan of each class is for testing, so the split is stratified and always the same. Ink was counted
    0..16 in blocks of 4x4 pixels, and is spread over 0..255 here [Alpaydin & Kaynak 1998, UCI Optical Recognition of
    Handwritten Digits, doi:10.24432/C50P49, CC BY 4.0; the part of it that scikit-learn ships].
    """
    with files("fnn.data.sets").joinpath("digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        ink, labels = stored["images"], stored["labels"].astype(np.int32)
    images = np.rint(ink[..., None] * (255 / 16)).astype(np.uint8)
    place_in_class = np.sum(
        (labels[:, None] == labels) & np.tri(len(labels), k=-1, dtype=bool), axis=1
    )
    test = place_in_class % FOLDS == 0
    return DataSet((images[~test], labels[~test]), (images[test], labels[test]))
