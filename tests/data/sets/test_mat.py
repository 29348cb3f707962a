"""MAT-files that SciPy writes; and such that are cut, flipped, lying or bombs."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io
from crafting import damaged

from fnn.data.sets.mat import HEADER, variables
from fnn.errors import DatasetFormatError, DatasetIntegrityError

DRAW = np.random.default_rng(0)
X, Y = (
    DRAW.integers(0, 256, (4, 5, 3, 700), np.uint8),
    DRAW.integers(1, 11, (700, 1)).astype(np.uint8),
)
MOST = {"X": X.size, "y": Y.size}
FORMS = pytest.mark.parametrize("packed", [True, False])


def saved(packed=True, **arrays):
    stored = io.BytesIO()
    scipy.io.savemat(stored, arrays, do_compression=packed)
    return stored.getvalue()


@FORMS
@pytest.mark.parametrize("order", [("X", "y"), ("y", "X")])
def test_what_scipy_wrote_is_read_in_matlabs_order(packed, order):
    arrays = {"X": X, "y": Y}
    found = variables("file", saved(packed, **{name: arrays[name] for name in order}), MOST)
    for name, (shape, values) in found.items():
        np.testing.assert_array_equal(values.reshape(shape, order="F"), arrays[name])


@FORMS
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_few_bytes_may_stand_in_their_tag(packed, count):
    found = variables("file", saved(packed, y=Y[:count]), {"y": 8})
    np.testing.assert_array_equal(found["y"][1], Y[:count, 0])


def test_pieces_that_inflate_to_much_come_out_whole():
    smooth = np.zeros((300_000, 1), np.uint8)
    smooth[::7] = 5
    np.testing.assert_array_equal(
        variables("file", saved(y=smooth), {"y": 300_000})["y"][1], smooth[:, 0]
    )


@FORMS
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
def test_other_arrays_are_told(packed, arrays, message):
    with pytest.raises(DatasetFormatError, match=message):
        variables("file", saved(packed, **arrays), MOST)


@pytest.mark.parametrize("stored", [b"", b"MATLAB 5.0", bytes(200), b"\x89HDF\r\n" * 40])
def test_what_is_no_mat_file_is_told(stored):
    with pytest.raises(DatasetFormatError, match="expected a MAT-file of version 5"):
        variables("file", stored, MOST)


def outcome(stored):
    try:
        return {
            name: values.tobytes() for name, (_, values) in variables("file", stored, MOST).items()
        }
    except (DatasetFormatError, DatasetIntegrityError):
        return None


@FORMS
def test_a_file_that_is_cut_anywhere_is_told(packed):
    stored = saved(packed, X=X, y=Y)
    for place in DRAW.integers(HEADER, len(stored), 200):
        assert outcome(stored[:place]) is None, place


def test_of_compressed_bytes_no_flip_goes_unseen():
    stored = saved(X=X, y=Y)
    good = outcome(stored)
    for cut, flipped in damaged(stored, 300, DRAW, first=HEADER):
        assert outcome(flipped) in (None, good), len(cut)


def element(*parts):
    """A matrix of these fields, each (kind, bytes), compressed; the last may have a size of its own."""
    inner = b"".join(
        struct.pack("<II", kind, *(size or [len(held)])) + held for kind, held, *size in parts
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
        ((6, b"", 2**32 - 1),),
    ],
    ids=["consistent", "more said", "negative", "more there", "axes", "name", "flags"],
)
def test_a_lie_or_a_bomb_is_refused_in_bounded_memory(parts):
    stored = element(*parts)
    tracemalloc.start()
    with pytest.raises((DatasetFormatError, DatasetIntegrityError)):
        variables("file", stored, {"y": 700})
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
