"""The part of MATLAB's format, version 5, that arrays of bytes are stored in."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from math import prod

import numpy as np

from fnn.data.sets.dataset import ANEW
from fnn.errors import DatasetFormatError, DatasetIntegrityError
from fnn.types import Shape

HEADER = 128  # bytes, the last four of them version 0x0100 and "IM", which is little-endian
INT8, UINT8, INT32, UINT32, MATRIX, COMPRESSED = 1, 2, 5, 6, 14, 15
FIELD = 64  # bytes, at most, of what tells about an array: its flags, its axes, its name
PIECE = 1 << 16


def variables(
    where: str, stored: bytes, most: Mapping[str, int]
) -> dict[str, tuple[Shape, np.ndarray]]:
    """The shape and the bytes, in MATLAB's order, of each variable; `most` names them and tells how large each may be.

    No memory is taken before a variable's name, axes and size fit each other and what was expected.
    DatasetFormatError where they do not, DatasetIntegrityError where the file is cut or damaged
    [MathWorks, MAT-File Format, level 5].
    """
    if stored[124:HEADER] != b"\x00\x01IM":
        raise DatasetFormatError(where, "a MAT-file of version 5", stored[:20], ANEW)
    found: dict[str, tuple[Shape, np.ndarray]] = {}
    place = HEADER
    try:
        while place < len(stored):
            kind, size = struct.unpack_from("<II", stored, place)
            element = memoryview(stored)[place + 8 : place + 8 + size]
            if kind not in (MATRIX, COMPRESSED) or len(element) < size:
                raise DatasetIntegrityError(
                    where, "a whole file, as published", f"a break at byte {place:,}", ANEW
                )
            # Uncompressed, the tag of the matrix is that of the element.
            pieces = (
                _inflated(element)
                if kind == COMPRESSED
                else iter((stored[place : place + 8], element))
            )
            found.update([_variable(where, _Stream(pieces), most)])
            place += 8 + size
    except (zlib.error, EOFError, struct.error) as error:
        raise DatasetIntegrityError(
            where, "a whole file, as published", f"damage: {error}", ANEW
        ) from error
    if set(found) != set(most):
        raise DatasetFormatError(
            where, f"the variables {', '.join(most)}", ", ".join(found) or "none", ANEW
        )
    return found


def _inflated(packed: memoryview) -> Iterator[bytes]:
    """What was compressed, piece by piece."""
    inflater = zlib.decompressobj()
    for start in range(0, len(packed), PIECE):
        rest, piece = bytes(packed[start : start + PIECE]), bytes(PIECE)
        while rest or len(piece) == PIECE:  # of a full piece, some may wait inside
            piece = inflater.decompress(rest, PIECE)
            rest = inflater.unconsumed_tail
            yield piece
    if not inflater.eof:
        raise EOFError("it ends too early")


class _Stream:
    """Bytes one after another, from pieces of any size."""

    def __init__(self, pieces: Iterator[bytes | memoryview]):
        self.pieces, self.rest = pieces, memoryview(b"")

    def take(self, count: int) -> np.ndarray:
        taken = np.empty(count, np.uint8)
        done = 0
        while done < count:
            while not self.rest:
                self.rest = memoryview(next(self.pieces, None) or _end())
            now = self.rest[: count - done]
            taken[done : done + len(now)] = np.frombuffer(now, np.uint8)
            done, self.rest = done + len(now), self.rest[len(now) :]
        return taken

    def tag(self) -> tuple[int, int, bytes | None]:
        """The kind and size of what comes, and, where it is as short as four bytes, itself."""
        first, second = struct.unpack("<HH", self.take(4).tobytes())
        if second:
            return first, second, self.take(4).tobytes()[:second]
        return first, struct.unpack("<I", self.take(4).tobytes())[0], None

    def field(self, where: str, kind: int) -> bytes:
        """The few bytes of what tells about an array."""
        found, size, short = self.tag()
        if found != kind or size > FIELD:
            raise DatasetFormatError(
                where, f"at most {FIELD} bytes of kind {kind}", f"{size:,} of kind {found}", ANEW
            )
        return self.take(size + -size % 8).tobytes()[:size] if short is None else short

    def end(self) -> int:
        """How many bytes are left."""
        return len(self.rest) + sum(map(len, self.pieces))


def _end() -> bytes:
    raise EOFError("it ends too early")


def _variable(
    where: str, stream: _Stream, most: Mapping[str, int]
) -> tuple[str, tuple[Shape, np.ndarray]]:
    stream.tag()
    stream.field(where, UINT32)
    axes = np.frombuffer(stream.field(where, INT32), "<i4")
    name, shape = stream.field(where, INT8).decode("ascii", "replace"), tuple(axes.tolist())
    kind, size, short = stream.tag()
    if name not in most or kind != UINT8:
        expected = f"bytes, kind {UINT8}, named {' or '.join(most)}"
        raise DatasetFormatError(where, expected, f"{name!r} of kind {kind}", ANEW)
    if prod(shape) != size or min(shape, default=0) < 1 or size > most[name]:
        says = f"{' x '.join(map(str, shape))} bytes, at most {most[name]:,}"
        raise DatasetFormatError(f"{where} {name}", says, f"{size:,}", ANEW)
    values = stream.take(size) if short is None else np.frombuffer(short, np.uint8)
    if stream.end() > 8:  # what fills up to a multiple of eight bytes
        raise DatasetFormatError(f"{where} {name}", f"{size:,} bytes, as it says", "more", ANEW)
    return name, (shape, values)
