"""MAT-files written by SciPy; truncated, changed and malicious ones."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io
from crafting import damaged

from fnn.data.sets.mat import HEADER_BYTES, variables
from fnn.errors import DatasetFormatError, DatasetIntegrityError

DRAW = np.random.default_rng(0)
X = DRAW.integers(0, 256, (4, 5, 3, 700), np.uint8)
Y = DRAW.integers(1, 11, (700, 1)).astype(np.uint8)
MAX_SIZES = {"X": X.size, "y": Y.size}
both_forms = pytest.mark.parametrize("packed", [True, False])


def saved(packed=True, **arrays):
    stored = io.BytesIO()
    scipy.io.savemat(stored, arrays, do_compression=packed)
    return stored.getvalue()


@both_forms
@pytest.mark.parametrize("order", [("X", "y"), ("y", "X")])
def test_arrays_of_scipy_are_read_in_the_order_of_matlab(packed, order):
    arrays = {"X": X, "y": Y}
    found = variables("file", saved(packed, **{name: arrays[name] for name in order}), MAX_SIZES)
    for name, (shape, values) in found.items():
        np.testing.assert_array_equal(values.reshape(shape, order="F"), arrays[name])


@both_forms
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_short_arrays_in_their_tag_are_read(packed, count):
    found = variables("file", saved(packed, y=Y[:count]), {"y": 8})
    np.testing.assert_array_equal(found["y"][1], Y[:count, 0])


def test_highly_compressed_arrays_are_read():
    smooth = np.zeros((300_000, 1), np.uint8)
    smooth[::7] = 5
    np.testing.assert_array_equal(
        variables("file", saved(y=smooth), {"y": 300_000})["y"][1], smooth[:, 0]
    )


@both_forms
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": X, "z": Y}, "expected bytes, kind 2, named X or y, got 'z' of kind 2"),
        ({"X": X}, "expected the variables X, y, got X"),
        ({"X": X.astype(float), "y": Y}, "got 'X' of kind"),
        ({"X": X.astype(np.uint16), "y": Y}, "got 'X' of kind 4"),
        (
            {"X": np.append(X, X, 3), "y": Y},
            "file X: expected 4 x 5 x 3 x 1400 bytes, at most 42,000, got 84,000",
        ),
        ({"X": X[:0], "y": Y}, "file X: expected 0 x 5"),
        ({"X": {"field": X}, "y": Y}, "expected"),
        ({"X": np.array([X, Y], object), "y": Y}, "expected"),
        ({"X": "text", "y": Y}, "got 'X' of kind"),
    ],
)
def test_other_arrays_raise(packed, arrays, message):
    with pytest.raises(DatasetFormatError, match=message):
        variables("file", saved(packed, **arrays), MAX_SIZES)


@pytest.mark.parametrize("stored", [b"", b"MATLAB 5.0", bytes(200), b"\x89HDF\r\n" * 40])
def test_files_of_other_formats_raise(stored):
    with pytest.raises(DatasetFormatError, match="expected a MAT-file of version 5"):
        variables("file", stored, MAX_SIZES)


def outcome(stored):
    """The bytes of each variable, or None for an error."""
    try:
        found = variables("file", stored, MAX_SIZES)
    except (DatasetFormatError, DatasetIntegrityError):
        return None
    return {name: values.tobytes() for name, (_, values) in found.items()}


@both_forms
def test_truncated_files_raise(packed):
    stored = saved(packed, X=X, y=Y)
    for end in DRAW.integers(HEADER_BYTES, len(stored), 200):
        assert outcome(stored[:end]) is None, end


def test_no_flipped_bit_of_a_compressed_file_is_missed():
    stored = saved(X=X, y=Y)
    good = outcome(stored)
    for cut, flipped in damaged(stored, 300, DRAW, first=HEADER_BYTES):
        assert outcome(flipped) in (None, good), len(cut)


def element(*parts):
    """A matrix of these fields, each (kind, bytes), compressed; each may give a false size."""
    inner = b"".join(
        struct.pack("<II", kind, *(size or [len(content)])) + content
        for kind, content, *size in parts
    )
    packed = zlib.compress(struct.pack("<II", 14, len(inner)) + inner)
    return bytes(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(packed)) + packed


FLAGS, NAME = (6, bytes(8)), (1, b"y" + bytes(7), 1)


@pytest.mark.parametrize(
    "parts",
    [
        (FLAGS, (5, struct.pack("<ii", 30_000, 10_000)), NAME, (2, b"", 300_000_000)),
        (FLAGS, (5, struct.pack("<ii", 700, 1)), NAME, (2, b"", 300_000_000)),
        (FLAGS, (5, struct.pack("<ii", -700, -1)), NAME, (2, bytes(704), 700)),
        (FLAGS, (5, struct.pack("<ii", 700, 1)), NAME, (2, bytes(300_000_000), 700)),
        (FLAGS, (5, b"", 300_000_000), NAME, (2, bytes(704), 700)),
        (FLAGS, (5, struct.pack("<ii", 700, 1)), (1, b"", 300_000_000), (2, bytes(704), 700)),
        (FLAGS, (5, struct.pack("<ii", 700, 1), 6), NAME, (2, bytes(704), 700)),
        ((6, b"", 2**32 - 1),),
    ],
    ids=[
        "consistent",
        "more in the header",
        "negative",
        "more in the data",
        "axes",
        "name",
        "half an axis",
        "flags",
    ],
)
def test_false_sizes_and_bombs_raise_in_bounded_memory(parts):
    stored = element(*parts)
    tracemalloc.start()
    with pytest.raises((DatasetFormatError, DatasetIntegrityError)):
        variables("file", stored, {"y": 700})
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
