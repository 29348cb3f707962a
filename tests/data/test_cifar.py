"""Files of CIFAR-10's layout, written here."""

import re

import numpy as np
import pytest

from fnn import data
from fnn.errors import ConfigError

NAMES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def record(label, place, value):
    """Black but for one number, at (row, column, channel)."""
    image = np.zeros((3, 32, 32), np.uint8)
    row, column, channel = place
    image[channel, row, column] = value
    return bytes([label]) + image.tobytes()


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(record(number, (1, 2, 0), 100 + number) + record(9, (31, 0, 2), number))
    return tmp_path


def test_images_have_their_channels_last_and_their_labels(folder):
    (images, labels), (test_images, test_labels) = data.cifar10(folder)
    assert images.shape == (10, 32, 32, 3)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(labels, [0, 9, 1, 9, 2, 9, 3, 9, 4, 9])
    np.testing.assert_array_equal(images[::2, 1, 2, 0], [100, 101, 102, 103, 104])
    np.testing.assert_array_equal(images[1::2, 31, 0, 2], range(5))
    assert images.sum() == 510 + 10
    np.testing.assert_array_equal(test_labels, [5, 9])
    assert test_images[0, 1, 2, 0] == 105


def test_what_is_wrong_with_the_files_is_told(folder):
    (folder / "data_batch_3.bin").write_bytes(bytes(3072))
    with pytest.raises(ConfigError, match=re.escape("cifar10 data_batch_3.bin: expected whole records of 3,073 bytes")):
        data.cifar10(folder)
    (folder / "data_batch_3.bin").write_bytes(record(10, (0, 0, 0), 1))
    with pytest.raises(ConfigError, match=re.escape("cifar10 data_batch_3.bin: expected labels below 10, got 10")):
        data.cifar10(str(folder))
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(ConfigError, match=re.escape("expected the files data_batch_3.bin, got")):
        data.cifar10(folder)
