"""IDX files whose header lies are told, with both sizes, before any memory is taken."""

import struct
import tracemalloc

import numpy as np
import pytest
from crafting import IMAGES, LABELS, idx

from fnn.data.sets.idx import idx as read
from fnn.errors import DatasetFormatError

GOOD = idx(IMAGES)


def header(*lengths, magic=(0, 0, 8, 3)):
    return bytes(magic) + struct.pack(f">{len(lengths)}I", *lengths)


def test_bytes_come_in_their_shape():
    for array, example in ((IMAGES, (28, 28)), (LABELS, ())):
        found = read("file", idx(array), example)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == np.uint8 and found.flags.writeable
    assert read("file", header(0, 28, 28), (28, 28)).shape == (0, 28, 28)


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
        r"6 x 28 x 28 = 4,704 bytes, as the header says, got 3,920; get it anew",
    ),
    "one fewer": (header(4, 28, 28) + DATA, r"4 x 28 x 28 = 3,136 bytes, as the header says, got 3,920"),
    "none": (header(0, 28, 28) + DATA, "0 x 28 x 28 = 0 bytes, as the header says, got 3,920"),
    "very many": (header(2**32 - 1, 28, 28) + DATA, "4,294,967,295 x 28 x 28 = 3,367,254,359,280 bytes"),
    "other rows": (header(5, 27, 28) + DATA, r"shape \(28, 28\), got a header that says 5 x 27 x 28"),
    "other columns": (header(5, 28, 2**32 - 1) + DATA, "5 x 28 x 4,294,967,295"),
    "as many bytes, other sides": (header(5, 14, 56) + DATA, "5 x 14 x 56"),
    "cut by a byte": (GOOD[:-1], "3,920 bytes, as the header says, got 3,919"),
    "cut after the header": (GOOD[:16], "got 0;"),
    "trailing bytes": (GOOD + b"\n", "got 3,921"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_what_is_wrong_is_told_and_nothing_is_allocated(name):
    stored, message = CRAFTED[name]
    tracemalloc.start()
    with pytest.raises(DatasetFormatError, match=f"mnist images: expected .*{message}"):
        read("mnist images", stored, (28, 28))
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
