"""The format of MNIST and its successors."""

from math import prod

import numpy as np

from fnn.data.sets.parts import ANEW
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
        raise DatasetFormatError(where, expected, f"{stored[:4].hex()} in {len(stored):,} bytes", ANEW)
    shape = tuple(np.frombuffer(stored, ">u4", axes, 4).tolist())
    sides = " x ".join(f"{length:,}" for length in shape)
    if shape[1:] != example:
        raise DatasetFormatError(where, f"examples of shape {example}", f"a header that says {sides}", ANEW)
    if prod(shape) != len(stored) - begin:
        says = f"{sides} = {prod(shape):,} bytes, as the header says"
        raise DatasetFormatError(where, says, f"{len(stored) - begin:,}", ANEW)
    return np.frombuffer(stored, np.uint8, offset=begin).reshape(shape).copy()
