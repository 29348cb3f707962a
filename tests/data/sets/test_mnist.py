"""MNIST and its successors from small IDX files; wrong files raise before memory is allocated."""

import gzip
import hashlib
import re
import struct
import tracemalloc

import numpy as np
import pytest
from crafting import IMAGES, LABELS, Answer, idx, mnist_files, release_of, server, write

from fnn import data
from fnn.data.sets import published
from fnn.data.sets.mnist import read_idx
from fnn.errors import (
    ConfigError,
    DatasetFormatError,
    DatasetIntegrityError,
    DatasetUnavailableError,
)

GOOD = idx(IMAGES)


def header(*lengths, magic=(0, 0, 8, 3)):
    return bytes(magic) + struct.pack(f">{len(lengths)}I", *lengths)


def test_arrays_have_the_shape_of_the_header():
    for array, example in ((IMAGES, (28, 28)), (LABELS, ())):
        found = read_idx("file", idx(array), example)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == np.uint8 and found.flags.writeable
    assert read_idx("file", header(0, 28, 28), (28, 28)).shape == (0, 28, 28)


DATA = GOOD[16:]
CRAFTED = {
    "empty": (b"", "an IDX header of 16 bytes that begins with 00000803, got  in 0 bytes"),
    "cut in the header": (GOOD[:15], "an IDX header"),
    "not IDX": (b"\x1f\x8b\x08\x00" + GOOD[4:], "begins with 00000803, got 1f8b0800"),
    "little-endian": (struct.pack("<IIII", 0x803, 5, 28, 28) + DATA, "got 03080000"),
    "of floats": (header(5, 28, 28, magic=(0, 0, 13, 3)) + DATA, "got 00000d03"),
    "of four axes": (header(5, 28, 28, 1, magic=(0, 0, 8, 4)) + DATA, "got 00000804"),
    "labels for images": (idx(LABELS), "got 00000801 in 13 bytes"),
    "one more": (
        header(6, 28, 28) + DATA,
        r"6 x 28 x 28 = 4,704 bytes, as the header says, got 3,920; replace it by an intact copy",
    ),
    "one fewer": (
        header(4, 28, 28) + DATA,
        r"4 x 28 x 28 = 3,136 bytes, as the header says, got 3,920",
    ),
    "none": (header(0, 28, 28) + DATA, "0 x 28 x 28 = 0 bytes, as the header says, got 3,920"),
    "very many": (
        header(2**32 - 1, 28, 28) + DATA,
        "4,294,967,295 x 28 x 28 = 3,367,254,359,280 bytes",
    ),
    "other rows": (
        header(5, 27, 28) + DATA,
        r"shape \(28, 28\), got a header that says 5 x 27 x 28",
    ),
    "other columns": (header(5, 28, 2**32 - 1) + DATA, "5 x 28 x 4,294,967,295"),
    "as many bytes, other sides": (header(5, 14, 56) + DATA, "5 x 14 x 56"),
    "cut by a byte": (GOOD[:-1], "3,920 bytes, as the header says, got 3,919"),
    "cut after the header": (GOOD[:16], "got 0;"),
    "trailing bytes": (GOOD + b"\n", "got 3,921"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_wrong_headers_raise_before_memory_is_allocated(name):
    stored, message = CRAFTED[name]
    tracemalloc.start()
    with pytest.raises(DatasetFormatError, match=f"mnist images: expected .*{message}"):
        read_idx("mnist images", stored, (28, 28))
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


SETS = ("mnist", "fashion_mnist", "kmnist")


def assert_crafted(found):
    for (images, labels), count in zip(found, (5, 2), strict=True):
        assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
        np.testing.assert_array_equal(images, IMAGES[:count, ..., None])
        np.testing.assert_array_equal(labels, LABELS[:count])


@pytest.mark.parametrize("name", SETS)
def test_plain_and_gzipped_files_are_read(name, tmp_path):
    files = mnist_files()
    assert_crafted(getattr(data, name)(write(tmp_path / "plain", files)))
    assert_crafted(
        getattr(data, name)(str(write(tmp_path / "packed", files, gzip.compress, ".gz")))
    )
    mixed = write(tmp_path / "mixed", dict(list(files.items())[:2]), gzip.compress, ".gz")
    assert_crafted(getattr(data, name)(write(mixed, dict(list(files.items())[2:]))))


def test_the_error_for_a_missing_file_has_both_of_its_names(tmp_path):
    folder = write(tmp_path, mnist_files())
    (folder / "t10k-labels-idx1-ubyte").unlink()
    message = "mnist directory: expected t10k-labels-idx1-ubyte.gz, or t10k-labels-idx1-ubyte, got "
    message += f"{folder} without"
    with pytest.raises(ConfigError, match=re.escape(message)):
        data.mnist(folder)


WRONG = {
    "labels": (
        {"train-labels-idx1-ubyte": idx(LABELS[:4])},
        "a label for each, got 5 images and 4 labels",
    ),
    "no images": (
        {"train-images-idx3-ubyte": idx(IMAGES[:0]), "train-labels-idx1-ubyte": idx(LABELS[:0])},
        "got 0 images and 0 labels",
    ),
    "a label": (
        {"train-labels-idx1-ubyte": idx(LABELS + (LABELS == 9))},
        "labels below 10, got 10 at index 2",
    ),
    "swapped": ({"train-images-idx3-ubyte": idx(LABELS)}, "begins with 00000803, got 00000801"),
    "too large": (
        {"t10k-labels-idx1-ubyte": bytes(10_009)},
        "at most 10,008 bytes, got at least 10,009",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_inconsistent_files_raise(name, tmp_path):
    files, message = WRONG[name]
    with pytest.raises(DatasetFormatError, match=re.escape(message)):
        data.mnist(write(tmp_path, mnist_files() | files))


def pack(content):
    """Compress as for the release, whose digest excludes the time."""
    return gzip.compress(content, mtime=0)


@pytest.fixture
def releases(monkeypatch, tmp_path):
    """A function that publishes the crafted files as mnist and returns the server's answers."""
    monkeypatch.setenv("FNN_DATA", str(tmp_path / "cache"))

    def publish(url):
        release, packed = release_of(f"{url}/", mnist_files())
        monkeypatch.setitem(published.RELEASES, "mnist", release)
        return {f"/{name}": Answer(content) for name, content in packed.items()}

    return publish


def test_without_a_directory_the_files_are_downloaded_once(releases, tmp_path):
    answers = {}
    with server(answers) as (url, asked):
        answers |= releases(url)
        assert_crafted(data.mnist())
    assert_crafted(data.mnist())
    assert len(asked) == 4 and len(list((tmp_path / "cache" / "mnist").iterdir())) == 4
    assert_crafted(data.mnist(tmp_path / "cache" / "mnist"))


def test_without_a_network_the_error_names_the_files_and_their_folder(releases, tmp_path):
    answers = {}
    with server(answers) as (url, _):
        answers |= releases(url)
        answers["/t10k-images-idx3-ubyte.gz"] = Answer(b"<html>", status=404)
        message = f"in {tmp_path}/cache/mnist, or a download from {url}/, "
        message += "got HTTP 404 Not Found; try again, or put"
        with pytest.raises(DatasetUnavailableError, match=re.escape(message)):
            data.mnist()
    names = "t10k-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-labels-idx1-ubyte.gz in "
    with pytest.raises(DatasetUnavailableError, match="mnist: expected " + re.escape(names)):
        data.mnist()
    folder = write(tmp_path / "cache" / "mnist", mnist_files(), pack, ".gz")
    assert_crafted(data.mnist())
    assert folder.is_dir()


def test_a_changed_file_in_the_cache_raises(releases, tmp_path):
    releases("http://127.0.0.1:9")
    files = write(tmp_path / "cache" / "mnist", mnist_files(), pack, ".gz")
    changed = files / "train-labels-idx1-ubyte.gz"
    changed.write_bytes(gzip.compress(idx(LABELS[::-1]), mtime=0))
    write(files, mnist_files())  # unpacked files, which have no digest
    with pytest.raises(
        DatasetIntegrityError, match=hashlib.sha256(changed.read_bytes()).hexdigest()
    ):
        data.mnist()
