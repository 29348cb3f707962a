"""CIFAR from small files in its format: unpacked, and in an archive as published."""

import re

import numpy as np
import pytest
from crafting import Answer, record, server, tar_gz, write

from fnn import data
from fnn.data.sets import published
from fnn.errors import (
    ConfigError,
    DatasetFormatError,
    DatasetIntegrityError,
    DatasetUnavailableError,
)

NAMES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
FILES = {
    name: record([number], (1, 2, 0), 100 + number) + record([9], (31, 0, 2), number)
    for number, name in enumerate(NAMES)
}
HUNDRED = {
    "train.bin": record([19, 99], (1, 2, 0), 7) + record([0, 50], (0, 0, 1), 8),
    "test.bin": record([3, 4], (31, 0, 2), 9),
}


def assert_crafted(found):
    (images, labels), (test_images, test_labels) = found
    assert images.shape == (10, 32, 32, 3) and images.flags.c_contiguous
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(labels, [0, 9, 1, 9, 2, 9, 3, 9, 4, 9])
    np.testing.assert_array_equal(images[::2, 1, 2, 0], [100, 101, 102, 103, 104])
    np.testing.assert_array_equal(images[1::2, 31, 0, 2], range(5))
    assert images.sum() == 510 + 10
    np.testing.assert_array_equal(test_labels, [5, 9])
    assert test_images[0, 1, 2, 0] == 105


def archive(folder, files):
    """Write the archive, its files in reverse order."""
    folder.mkdir(exist_ok=True)
    members = [(f"cifar-10-batches-bin/{name}", content) for name, content in files.items()]
    packed = tar_gz(members[::-1])
    (folder / "cifar-10-binary.tar.gz").write_bytes(packed)
    return folder


def test_images_have_channels_last_and_their_labels(tmp_path):
    assert_crafted(data.cifar10(write(tmp_path / "flat", FILES)))
    write(tmp_path / "in" / "cifar-10-batches-bin", FILES)
    assert_crafted(data.cifar10(str(tmp_path / "in")))
    assert_crafted(data.cifar10(archive(tmp_path / "packed", FILES)))


def test_images_beyond_one_chunk_are_transposed(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (1234, 3, 32, 32), np.uint8)
    content = b"".join(bytes([index % 10]) + image.tobytes() for index, image in enumerate(pixels))
    images, labels = data.cifar10(write(tmp_path, FILES | {"test_batch.bin": content})).test
    np.testing.assert_array_equal(images, pixels.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(labels, np.arange(1234) % 10)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [({}, [99, 50]), ({"labels": "fine"}, [99, 50]), ({"labels": "coarse"}, [19, 0])],
)
def test_each_image_of_cifar100_has_two_labels(labels, wanted, tmp_path):
    (images, found), (test_images, _) = data.cifar100(write(tmp_path, HUNDRED), **labels)
    np.testing.assert_array_equal(found, wanted)
    assert images.shape == (2, 32, 32, 3) and found.dtype == np.int32
    assert (images[0, 1, 2, 0], images[1, 0, 0, 1], test_images[0, 31, 0, 2]) == (7, 8, 9)
    packed = tar_gz([(f"cifar-100-binary/{name}", content) for name, content in HUNDRED.items()])
    again = data.cifar100(write(tmp_path / "packed", {"cifar-100-binary.tar.gz": packed}), **labels)
    np.testing.assert_array_equal(again.train[1], wanted)


@pytest.mark.parametrize("pack", [write, archive])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(3072), "data_batch_3.bin: expected whole records of 3,073 bytes, got 3,072 bytes"),
        (b"", "data_batch_3.bin: expected whole records of 3,073 bytes, got 0 bytes"),
        (
            record([10], (0, 0, 0), 1),
            "data_batch_3.bin: expected labels below 10, got 10 at index 0",
        ),
        (bytes(30_730_001), "at most 30,730,000 bytes, got"),
    ],
)
def test_wrong_files_raise(pack, content, message, tmp_path):
    with pytest.raises(DatasetFormatError, match=re.escape(message)):
        data.cifar10(pack(tmp_path, FILES | {"data_batch_3.bin": content}))


@pytest.mark.parametrize(("column", "labels"), [(0, "coarse"), (1, "fine")])
def test_cifar100_labels_outside_the_classes_raise(column, labels, tmp_path):
    both = [[20, 5], [5, 100]][column]
    folder = write(tmp_path, HUNDRED | {"test.bin": record(both, (0, 0, 0), 1)})
    with pytest.raises(
        DatasetFormatError, match=f"cifar100 test.bin: expected labels below {both[column]}"
    ):
        data.cifar100(folder, labels=labels)
    data.cifar100(folder, labels="fine" if labels == "coarse" else "coarse")


def test_other_kinds_of_labels_and_missing_files_raise(tmp_path):
    with pytest.raises(
        ConfigError, match="cifar100 labels: expected one of coarse, fine, got 'superclass'"
    ):
        data.cifar100(tmp_path, labels="superclass")
    folder = write(tmp_path, FILES)
    (folder / "data_batch_3.bin").unlink()
    message = "cifar10 directory: expected cifar-10-binary.tar.gz, or data_batch_3.bin, got "
    message += f"{folder} without; put it"
    with pytest.raises(ConfigError, match=re.escape(message)):
        data.cifar10(folder)


def test_the_pickled_version_is_not_read(tmp_path):
    packed = tar_gz([("cifar-10-batches-py/data_batch_1", b"\x80\x02}q\x00.")])
    with pytest.raises(
        DatasetFormatError, match=r"an archive with cifar-10-batches-bin/data_batch_1\.bin"
    ):
        data.cifar10(write(tmp_path, {"cifar-10-binary.tar.gz": packed}))


def test_an_archive_other_than_the_published_one_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("FNN_DATA", str(tmp_path))
    release = published.RELEASES["cifar10"]
    with server({"/cifar-10-binary.tar.gz": Answer(tar_gz([]), length="none")}) as (url, _):
        monkeypatch.setitem(published.RELEASES, "cifar10", release._replace(url=f"{url}/"))
        with pytest.raises(DatasetUnavailableError, match=r"cut after .* of 170,052,171 bytes"):
            data.cifar10()
        file = release.files[0]._replace(size=len(tar_gz([])))
        small = release._replace(url=f"{url}/", files=(file,))
        monkeypatch.setitem(published.RELEASES, "cifar10", small)
        with pytest.raises(DatasetIntegrityError, match="c4a38c50a1bc5f3a1c5537f2155ab9d6"):
            data.cifar10()
    assert not (tmp_path / "cifar10" / "cifar-10-binary.tar.gz").exists()
