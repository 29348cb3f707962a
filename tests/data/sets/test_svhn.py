"""SVHN from small files in its format, written by SciPy."""

import re

import numpy as np
import pytest
import scipy.io

from fnn import data
from fnn.errors import ConfigError, DatasetFormatError

DRAW = np.random.default_rng(0)
IMAGES = {
    "train": DRAW.integers(0, 256, (1100, 32, 32, 3), np.uint8),
    "test": DRAW.integers(0, 256, (2, 32, 32, 3), np.uint8),
}
LABELS = {
    "train": (DRAW.integers(1, 11, 1100)).astype(np.uint8),
    "test": np.array([10, 1], np.uint8),
}


def stored(folder, images=IMAGES, labels=LABELS, packed=True):
    for part, array in images.items():
        arrays = {"X": array.transpose(1, 2, 3, 0), "y": labels[part][:, None]}
        scipy.io.savemat(folder / f"{part}_32x32.mat", arrays, do_compression=packed)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_images_are_upright_and_label_ten_is_zero(packed, tmp_path):
    found = data.svhn(stored(tmp_path, packed=packed))
    for part in ("train", "test"):
        images, labels = getattr(found, part)
        np.testing.assert_array_equal(images, IMAGES[part])
        np.testing.assert_array_equal(labels, LABELS[part] % 10)
        assert (images.dtype, labels.dtype) == (np.uint8, np.int32) and images.flags.writeable


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES["test"], [0, 1], "svhn test_32x32.mat y: expected labels from 1 to 10, got 0"),
        (
            IMAGES["test"],
            [11, 1],
            "svhn test_32x32.mat y: expected labels below 10, got 11 at index 0",
        ),
        (
            IMAGES["test"],
            [1, 2, 3],
            "expected images, and a label for each, got 2 images and 3 labels",
        ),
        (
            IMAGES["test"][:, :16],
            [1, 2],
            "X: expected the shape (32, 32, 3, n), got (16, 32, 3, 2)",
        ),
    ],
)
def test_wrong_arrays_raise(images, labels, message, tmp_path):
    folder = stored(
        tmp_path, IMAGES | {"test": images}, LABELS | {"test": np.array(labels, np.uint8)}
    )
    with pytest.raises(DatasetFormatError, match=re.escape(message)):
        data.svhn(folder)


def test_the_error_for_a_missing_file_has_its_name(tmp_path):
    (stored(tmp_path) / "test_32x32.mat").unlink()
    with pytest.raises(
        ConfigError,
        match=re.escape(f"svhn directory: expected test_32x32.mat, got {tmp_path} without"),
    ):
        data.svhn(tmp_path)
