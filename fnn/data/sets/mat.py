"""Reader of arrays of bytes in MATLAB files, version 5, in bounded memory."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from math import prod

import numpy as np

from fnn.data.sets.dataset import REPLACE
from fnn.errors import DatasetFormatError, DatasetIntegrityError
from fnn.types import Shape

# The file begins with a header; its last four bytes are the version 0x0100 and "IM", which means
# little-endian.
HEADER_BYTES = 128
VERSION_OFFSET = 124
VERSION = b"\x00\x01IM"
# A tag precedes each element: its type and its size in bytes, two uint32.
TAG_BYTES = 8
ALIGNMENT = 8  # elements are padded to a multiple of it
# Types of elements.
INT8 = 1
UINT8 = 2
INT32 = 5
UINT32 = 6
MATRIX = 14
COMPRESSED = 15

AXIS_BYTES = 4  # of the length of one axis
MAX_FIELD_BYTES = 64  # of the flags, the axes and the name of an array
CHUNK = 1 << 16


def variables(
    where: str, stored: bytes, max_sizes: Mapping[str, int]
) -> dict[str, tuple[Shape, np.ndarray]]:
    """Read all variables of a MAT-file.

    Memory for a variable is allocated only after its name, axes and size agree with each other and
    with `max_sizes` [MathWorks, MAT-File Format, level 5].

    Args:
        where: Name of the file in errors.
        stored: The bytes of the file.
        max_sizes: Names of the variables, each with its largest size in bytes.

    Returns:
        The shape and the bytes of each variable; the first axis varies fastest, as in MATLAB.

    Raises:
        DatasetFormatError: A variable is missing, or is not an array of bytes of these sizes.
        DatasetIntegrityError: The file is truncated or damaged.
    """
    if stored[VERSION_OFFSET:HEADER_BYTES] != VERSION:
        raise DatasetFormatError(
            where,
            "a MAT-file of version 5",
            stored[:20],
            REPLACE,
        )
    found: dict[str, tuple[Shape, np.ndarray]] = {}
    offset = HEADER_BYTES
    try:
        while offset < len(stored):
            size = _element_size(where, stored, offset)
            stream = _Stream(_element_chunks(stored, offset, size))
            name, variable = _read_variable(where, stream, max_sizes)
            found[name] = variable
            offset += TAG_BYTES + size
    except (zlib.error, EOFError, struct.error) as error:
        expected = "a whole file, as published"
        raise DatasetIntegrityError(
            where,
            expected,
            f"damage: {error}",
            REPLACE,
        ) from error
    if set(found) != set(max_sizes):
        expected = f"the variables {', '.join(max_sizes)}"
        got = ", ".join(found) or "no variables"
        raise DatasetFormatError(where, expected, got, REPLACE)
    return found


def _element_size(
    where: str,
    stored: bytes,
    offset: int,
) -> int:
    """Return the size of the element at the offset, after a check of its type and size."""
    kind, size = struct.unpack_from("<II", stored, offset)
    available = len(stored) - offset - TAG_BYTES
    if kind not in (MATRIX, COMPRESSED) or available < size:
        expected = "a whole file, as published"
        got = f"damage at byte {offset:,}"
        raise DatasetIntegrityError(where, expected, got, REPLACE)
    return size


def _element_chunks(
    stored: bytes,
    offset: int,
    size: int,
) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a matrix element, tag first, decompressed where necessary."""
    kind, _ = struct.unpack_from("<II", stored, offset)
    start = offset + TAG_BYTES
    content = memoryview(stored)[start : start + size]
    if kind == COMPRESSED:  # the tag of the matrix is inside
        yield from _decompress(content)
    else:
        yield stored[offset:start]
        yield content


def _decompress(packed: memoryview) -> Iterator[bytes]:
    """Decompress chunk by chunk, so that a small file cannot fill the memory."""
    decompressor = zlib.decompressobj()
    for start in range(0, len(packed), CHUNK):
        rest = bytes(packed[start : start + CHUNK])
        is_full = True
        # After a full chunk, the decompressor may hold more output.
        while rest or is_full:
            chunk = decompressor.decompress(rest, CHUNK)
            rest = decompressor.unconsumed_tail
            is_full = len(chunk) == CHUNK
            yield chunk
    if not decompressor.eof:
        raise EOFError("the compressed data ends too early")


class _Stream:
    """Sequential reader of bytes from chunks of any size.

    Attributes:
        chunks: Chunks that are not read yet.
        rest: Unread bytes of the current chunk.
    """

    def __init__(self, chunks: Iterator[bytes | memoryview]):
        self.chunks = chunks
        self.rest = memoryview(b"")

    def take(self, count: int) -> np.ndarray:
        """Read `count` bytes."""
        taken = np.empty(count, np.uint8)
        done = 0
        while done < count:
            while not self.rest:
                self._next_chunk()
            part = self.rest[: count - done]
            end = done + len(part)
            taken[done:end] = np.frombuffer(part, np.uint8)
            self.rest = self.rest[len(part) :]
            done = end
        return taken

    def _next_chunk(self) -> None:
        chunk = next(self.chunks, None)
        if not chunk:
            raise EOFError("the data ends too early")
        self.rest = memoryview(chunk)

    def tag(self) -> tuple[int, int, bytes | None]:
        """Read a tag: type and size of the element, and its content if the tag holds it."""
        first, second = struct.unpack("<HH", self.take(4).tobytes())
        # The small format packs type and size in 2 bytes each, and up to 4 bytes of content.
        if second:
            content = self.take(4).tobytes()
            return first, second, content[:second]
        (size,) = struct.unpack("<I", self.take(4).tobytes())
        return first, size, None

    def field(self, where: str, kind: int) -> bytes:
        """Read a short element of this type."""
        found, size, content = self.tag()
        if found != kind or size > MAX_FIELD_BYTES:
            expected = f"at most {MAX_FIELD_BYTES} bytes of kind {kind}"
            raise DatasetFormatError(
                where,
                expected,
                f"{size:,} of kind {found}",
                REPLACE,
            )
        if content is not None:
            return content
        padding = -size % ALIGNMENT
        return self.take(size + padding).tobytes()[:size]

    def count_rest(self) -> int:
        """Read to the end; return the number of bytes."""
        return len(self.rest) + sum(map(len, self.chunks))


def _read_variable(
    where: str, stream: _Stream, max_sizes: Mapping[str, int]
) -> tuple[str, tuple[Shape, np.ndarray]]:
    """Read one matrix element: flags, axes, name, content."""
    stream.tag()  # of the matrix
    stream.field(where, UINT32)  # flags: not needed
    lengths = stream.field(where, INT32)
    if len(lengths) % AXIS_BYTES:
        expected = f"axes of {AXIS_BYTES} bytes each"
        raise DatasetFormatError(where, expected, f"{len(lengths)} bytes", REPLACE)
    shape = tuple(np.frombuffer(lengths, "<i4").tolist())
    name = stream.field(where, INT8).decode("ascii", "replace")
    # The tag of the values; a short array is inside of it.
    kind, size, content = stream.tag()
    if name not in max_sizes or kind != UINT8:
        expected = f"bytes, kind {UINT8}, named {' or '.join(max_sizes)}"
        raise DatasetFormatError(
            where,
            expected,
            f"{name!r} of kind {kind}",
            REPLACE,
        )
    where = f"{where} {name}"
    # Checked before the memory is allocated: a damaged or malicious file may hold any size.
    # Two negative axes have a positive product.
    is_consistent = prod(shape) == size and min(shape, default=0) >= 1
    if not is_consistent or size > max_sizes[name]:
        sides = " x ".join(map(str, shape))
        expected = f"{sides} bytes, at most {max_sizes[name]:,}"
        raise DatasetFormatError(where, expected, f"{size:,}", REPLACE)
    values = stream.take(size) if content is None else np.frombuffer(content, np.uint8)
    rest = stream.count_rest()
    if rest > ALIGNMENT:  # else it is padding
        expected = f"{size:,} bytes, as the header says"
        raise DatasetFormatError(where, expected, f"{rest:,} more", REPLACE)
    return name, (shape, values)
