"""MNIST and its relatives in IDX files."""

from math import prod
from pathlib import Path

import numpy as np

from fnn.data.sets.dataset import ANEW, DataSet, labeled
from fnn.data.sets.published import contents
from fnn.errors import DatasetFormatError
from fnn.types import Shape

UNSIGNED_BYTE = 8


def idx(where: str, stored: bytes, example: Shape) -> np.ndarray:
    """The array uint8 (n, *example) of an IDX file: 0 0 type axes, each axis as a big-endian uint32, the bytes.

    DatasetFormatError for another type or shape, and where the header tells of more or fewer bytes than there are; it
    is believed in nothing before.
    """
    axes = 1 + len(example)
    begin = 4 * (1 + axes)
    magic = bytes((0, 0, UNSIGNED_BYTE, axes))
    if len(stored) < begin or stored[:4] != magic:
        expected = f"an IDX header of {begin} bytes that begins with {magic.hex()}"
        raise DatasetFormatError(
            where, expected, f"{stored[:4].hex()} in {len(stored):,} bytes", ANEW
        )
    shape = tuple(np.frombuffer(stored, ">u4", axes, 4).tolist())
    sides = " x ".join(f"{length:,}" for length in shape)
    if shape[1:] != example:
        raise DatasetFormatError(
            where, f"examples of shape {example}", f"a header that says {sides}", ANEW
        )
    if prod(shape) != len(stored) - begin:
        says = f"{sides} = {prod(shape):,} bytes, as the header says"
        raise DatasetFormatError(where, says, f"{len(stored) - begin:,}", ANEW)
    return np.frombuffer(stored, np.uint8, offset=begin).reshape(shape).copy()


SIZE, CLASSES = 28, 10


def mnist(directory: str | Path | None = None) -> DataSet:
    """70,000 handwritten digits in gray: images uint8 (n, 28, 28, 1), labels int32 (n,), the last 10,000 to test.

    Read from the directory: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
    t10k-labels-idx1-ubyte, or these with .gz; fewer examples will do. Without a directory they are fetched once, to
    $FNN_DATA or the user's cache. ConfigError for a directory without them, DatasetFormatError and
    DatasetIntegrityError for files that are wrong or damaged, DatasetUnavailableError where they can't be fetched
    [LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document recognition"].
    """
    return _read("mnist", directory)


def fashion_mnist(directory: str | Path | None = None) -> DataSet:
    """70,000 articles of clothing in ten classes, else as `mnist`: files, shapes, errors.

    The classes: T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot [Xiao, Rasul &
    Vollgraf 2017, arXiv:1708.07747].
    """
    return _read("fashion_mnist", directory)


def kmnist(directory: str | Path | None = None) -> DataSet:
    """70,000 handwritten characters of ten kinds of cursive Japanese, else as `mnist`: files, shapes, errors.

    The classes: o, ki, su, tsu, na, ha, ma, ya, re, wo [Clanuwat et al. 2018, Kuzushiji-MNIST, arXiv:1812.01718].
    """
    return _read("kmnist", directory)


def _read(name: str, directory: str | Path | None) -> DataSet:
    held = contents(name, directory)

    def part(kind: str) -> tuple[np.ndarray, np.ndarray]:
        files = {f"{kind}-images-idx3-ubyte": (SIZE, SIZE), f"{kind}-labels-idx1-ubyte": ()}
        images, labels = (
            idx(f"{name} {file}", held.pop(file), example) for file, example in files.items()
        )
        return labeled(f"{name} {kind}-labels-idx1-ubyte", images[..., None], labels, CLASSES)

    return DataSet(part("train"), part("t10k"))
