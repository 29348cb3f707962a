"""Reads what compressed files and archives hold, into memory and never more than was expected; writes nothing."""

import gzip
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fnn.data.sets.dataset import ANEW
from fnn.errors import DatasetFormatError, DatasetIntegrityError, FnnError

SLACK = 1 << 20  # bytes; of an archive, for its headers and files that nobody asks for, as a readme


def unpack(path: Path, holds: Mapping[str, int]) -> dict[str, bytes]:
    """What a .tar.gz or a .gz holds, or another file is, by name; `holds` tells for each the most bytes it may have.

    DatasetIntegrityError where it is cut or damaged; DatasetFormatError where it holds too much, or something else.
    """
    with _whole(path), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        if path.name.endswith(".tar.gz"):
            return _members(path.name, stream, holds)
        return {inner: _all(path.name, stream, most) for inner, most in holds.items()}


def _all(where: str, stream: IO[bytes] | Any, most: int) -> bytes:
    """All that is in the stream, if that is not more than so many bytes; of more it reads one byte."""
    found = stream.read(most + 1)
    if len(found) > most:
        raise DatasetFormatError(where, f"at most {most:,} bytes", "more", ANEW)
    return found


class _Bounded:
    """A stream that may give so many bytes."""

    def __init__(self, where: str, stream: Any, most: int):
        self.where, self.stream, self.most, self.left = where, stream, most, most

    def read(self, size: int) -> bytes:
        found = self.stream.read(min(size, self.left + 1))
        self.left -= len(found)
        if self.left < 0:
            raise DatasetFormatError(
                self.where, f"at most {self.most:,} bytes unpacked", "more", ANEW
            )
        return found


def _members(where: str, stream: Any, holds: Mapping[str, int]) -> dict[str, bytes]:
    """The files of these names. Others are passed over, whatever they are and wherever they would go."""
    held = {}
    most = sum(holds.values()) + SLACK
    stream = _Bounded(where, stream, most)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.size > most:  # tarfile would look for them beyond the end, for ever
                got = f"{member.size:,} in one file"
                raise DatasetFormatError(where, f"at most {most:,} bytes unpacked", got, ANEW)
            if member.name in holds:
                held[member.name] = _member(
                    f"{where} {member.name}", archive, member, holds[member.name]
                )
    while stream.read(1 << 16):  # to the end, where gzip's checksum is
        pass
    if missing := [name for name in holds if name not in held]:
        raise DatasetFormatError(
            where, f"an archive with {', '.join(missing)}", "one without", ANEW
        )
    return held


def _member(where: str, archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    file = (
        archive.extractfile(member) if member.isreg() else None
    )  # of a link it would give what that points at
    if file is None or member.size > most:
        got = f"one of {member.size:,}" if file else "a link, a folder or a device"
        raise DatasetFormatError(where, f"a file of at most {most:,} bytes", got, ANEW)
    return file.read()


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Tell by one error that a file is cut or damaged, in whichever way it shows."""
    try:
        yield
    except FnnError:
        raise
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError, ValueError) as error:
        raise DatasetIntegrityError(
            str(path), "a whole file, as published", f"damage: {error}", ANEW
        ) from error
