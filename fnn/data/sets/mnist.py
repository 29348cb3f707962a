"""MNIST, Fashion-MNIST and Kuzushiji-MNIST, read from their IDX files."""

from math import prod
from pathlib import Path

import numpy as np

from fnn.data.sets.dataset import REPLACE, DataSet, labeled
from fnn.data.sets.published import read_release
from fnn.errors import DatasetFormatError
from fnn.types import Shape

SIDE = 28  # pixels
CLASSES = 10
UNSIGNED_BYTE = 8  # type code of IDX


def mnist(directory: str | Path | None = None) -> DataSet:
    """Load MNIST: 70,000 handwritten digits in gray.

    [LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document
    recognition"].

    Args:
        directory: Directory with train-images-idx3-ubyte, train-labels-idx1-ubyte,
            t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, or these with .gz; the files may hold
            fewer examples. None: they are downloaded once, to $FNN_DATA or the user's cache.

    Returns:
        60,000 training and 10,000 test examples: images uint8 (n, 28, 28, 1), labels int32 (n,).

    Raises:
        ConfigError: The directory lacks a file.
        DatasetFormatError: A file has another format.
        DatasetIntegrityError: A file is damaged, or the download is not the published file.
        DatasetUnavailableError: The download fails.
    """
    return _load("mnist", directory)


def fashion_mnist(directory: str | Path | None = None) -> DataSet:
    """Load Fashion-MNIST: 70,000 gray images of clothing.

    The classes are T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag and ankle
    boot [Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747].

    Args:
        directory: Directory with the four files, whose names are those of `mnist`. None: they are
            downloaded once.

    Returns:
        60,000 training and 10,000 test examples: images uint8 (n, 28, 28, 1), labels int32 (n,).

    Raises:
        FnnError: As `mnist`.
    """
    return _load("fashion_mnist", directory)


def kmnist(directory: str | Path | None = None) -> DataSet:
    """Load Kuzushiji-MNIST: 70,000 gray images of cursive Japanese characters.

    The classes are o, ki, su, tsu, na, ha, ma, ya, re and wo [Clanuwat et al. 2018,
    arXiv:1812.01718].

    Args:
        directory: Directory with the four files, whose names are those of `mnist`. None: they are
            downloaded once.

    Returns:
        60,000 training and 10,000 test examples: images uint8 (n, 28, 28, 1), labels int32 (n,).

    Raises:
        FnnError: As `mnist`.
    """
    return _load("kmnist", directory)


def _load(release: str, directory: str | Path | None) -> DataSet:
    contents = read_release(release, directory)
    train = _read_part(release, contents, "train")
    test = _read_part(release, contents, "t10k")
    return DataSet(train, test)


def _read_part(
    release: str,
    contents: dict[str, bytes],
    part: str,
) -> tuple[np.ndarray, np.ndarray]:
    image_name = f"{part}-images-idx3-ubyte"
    label_name = f"{part}-labels-idx1-ubyte"
    # pop frees the bytes of each file once they are copied to an array.
    image_where = f"{release} {image_name}"
    label_where = f"{release} {label_name}"
    images = read_idx(image_where, contents.pop(image_name), (SIDE, SIDE))
    labels = read_idx(label_where, contents.pop(label_name), ())
    # (n, 28, 28) to (n, 28, 28, 1)
    images = images[..., None]
    return labeled(label_where, images, labels, CLASSES)


def read_idx(
    where: str,
    stored: bytes,
    example_shape: Shape,
) -> np.ndarray:
    """Parse an IDX file: 0, 0, type, rank, each axis as a big-endian uint32, then the bytes.

    Args:
        where: Name of the file in errors.
        stored: The bytes of the file.
        example_shape: Shape of one example.

    Returns:
        Array uint8 (n, *example_shape).

    Raises:
        DatasetFormatError: Another type or shape, or a size that is not that of the header. The
            array is allocated only after these checks.
    """
    rank = 1 + len(example_shape)
    header_bytes = 4 + 4 * rank
    magic = bytes((0, 0, UNSIGNED_BYTE, rank))
    if len(stored) < header_bytes or stored[:4] != magic:
        expected = f"an IDX header of {header_bytes} bytes that begins with {magic.hex()}"
        got = f"{stored[:4].hex()} in {len(stored):,} bytes"
        raise DatasetFormatError(where, expected, got, REPLACE)
    # Python's numbers, because the product of uint32 could overflow.
    lengths = np.frombuffer(stored, ">u4", count=rank, offset=4)
    shape = tuple(lengths.tolist())
    sides = " x ".join(f"{length:,}" for length in shape)
    if shape[1:] != example_shape:
        expected = f"examples of shape {example_shape}"
        got = f"a header that says {sides}"
        raise DatasetFormatError(where, expected, got, REPLACE)
    data_bytes = len(stored) - header_bytes
    if prod(shape) != data_bytes:
        expected = f"{sides} = {prod(shape):,} bytes, as the header says"
        raise DatasetFormatError(where, expected, f"{data_bytes:,}", REPLACE)
    pixels = np.frombuffer(stored, np.uint8, offset=header_bytes)
    # An array on top of `bytes` would be read-only, hence the copy.
    return pixels.reshape(shape).copy()
