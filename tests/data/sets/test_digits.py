"""The digits of the package against scikit-learn's copy."""

import numpy as np
import sklearn.datasets

from fnn import data


def test_every_image_of_scikit_learn_occurs_once():
    ours = data.digits()
    theirs = sklearn.datasets.load_digits()
    images = np.concatenate([ours.train[0], ours.test[0]])
    labels = np.concatenate([ours.train[1], ours.test[1]])
    assert images.shape == (1797, 8, 8, 1) and images.dtype == np.uint8 and labels.dtype == np.int32
    ink = np.rint(images[..., 0] / (255 / 16)).astype(int)
    # The order differs, so the pairs of label and pixels are sorted.
    found = zip(labels.tolist(), map(np.ndarray.tobytes, ink), strict=True)
    their_ink = map(np.ndarray.tobytes, theirs.images.astype(int))
    wanted = zip(theirs.target.tolist(), their_ink, strict=True)
    assert sorted(found) == sorted(wanted)


def test_the_split_is_stratified_and_always_the_same():
    first, second = data.digits(), data.digits()
    for part, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(part[0], again[0])
    counts = [np.bincount(labels, minlength=10) for _, labels in first]
    assert [len(labels) for _, labels in first] == [1433, 364]
    np.testing.assert_array_equal(counts[1], -(-(counts[0] + counts[1]) // 5))
