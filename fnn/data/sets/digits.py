"""The handwritten digits that are part of the package."""

from importlib.resources import files

import numpy as np

from fnn.data.sets.dataset import DataSet

FOLDS = 5  # one of which is for testing
MAX_INK = 16


def digits() -> DataSet:
    """Load 1,797 handwritten digits of 8 x 8 pixels, without a download.

    Every fifth scan of each class is for testing, so the split is stratified and always the same.
    The files count ink 0..16 in blocks of 4x4 pixels, which is scaled to 0..255 [Alpaydin & Kaynak
    1998, UCI Optical Recognition of Handwritten Digits, doi:10.24432/C50P49, CC BY 4.0; the part of
    it that scikit-learn ships].

    Returns:
        1,433 training and 364 test examples: gray images uint8 (n, 8, 8, 1), labels int32 (n,).
    """
    with files("fnn.data.sets").joinpath("digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        ink = stored["images"]
        labels = stored["labels"].astype(np.int32)
    levels = np.rint(ink[..., None] * (255 / MAX_INK))
    images = levels.astype(np.uint8)
    # For each example, the number of earlier examples of its class. (n, n)
    same_class = labels[:, None] == labels
    earlier = np.tri(len(labels), k=-1, dtype=bool)
    index_in_class = np.sum(same_class & earlier, axis=1)
    is_test = index_in_class % FOLDS == 0
    train = (images[~is_test], labels[~is_test])
    test = (images[is_test], labels[is_test])
    return DataSet(train, test)
