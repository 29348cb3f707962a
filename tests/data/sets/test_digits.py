"""The images that travel with the package, against scikit-learn's copy."""

import numpy as np
import sklearn.datasets

from fnn import data


def test_every_scan_of_scikit_learn_is_there_once():
    ours, theirs = data.digits(), sklearn.datasets.load_digits()
    images, labels = (np.concatenate(parts) for parts in zip(ours.train, ours.test, strict=True))
    assert images.shape == (1797, 8, 8, 1) and images.dtype == np.uint8 and labels.dtype == np.int32
    ink = np.rint(images[..., 0] / (255 / 16)).astype(int)
    found = sorted((int(label), scan.tobytes()) for label, scan in zip(labels, ink, strict=True))
    wanted = sorted(
        (int(y), x.astype(int).tobytes()) for y, x in zip(theirs.target, theirs.images, strict=True)
    )
    assert found == wanted


def test_the_split_is_stratified_and_always_the_same():
    first, second = data.digits(), data.digits()
    for part, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(part[0], again[0])
    counts = [np.bincount(labels, minlength=10) for _, labels in first]
    assert [len(labels) for _, labels in first] == [1433, 364]
    np.testing.assert_array_equal(counts[1], -(-(counts[0] + counts[1]) // 5))
