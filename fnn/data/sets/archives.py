"""Decompression of downloaded files and archives in bounded memory; nothing is written to disk."""

import gzip
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fnn.data.sets.dataset import REPLACE
from fnn.errors import DatasetFormatError, DatasetIntegrityError, FnnError

# Bytes of an archive beyond its expected files: headers, and files that are not used, as a readme.
SLACK = 1 << 20
CHUNK = 1 << 16


def unpack(path: Path, max_sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Read the files in a .tar.gz or .gz file, or an uncompressed file.

    Args:
        path: File to read. Its name decides the format: .tar.gz, .gz, else uncompressed.
        max_sizes: Names of the files that are read, each with its largest size in bytes. Of a file
            that is not a .tar.gz: one name of choice.

    Returns:
        The bytes of each file, by name.

    Raises:
        DatasetIntegrityError: The file is truncated or damaged.
        DatasetFormatError: A file is missing, too large, or a link, folder or device.
    """
    # The stream is decompressed while it is read.
    with _damage_as_integrity_error(path), _open(path) as stream:
        if path.name.endswith(".tar.gz"):
            return _read_members(path.name, stream, max_sizes)
        contents = {}
        for name, size in max_sizes.items():
            contents[name] = _read_all(path.name, stream, size)
        return contents


def _open(path: Path) -> Any:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _read_all(
    where: str,
    stream: IO[bytes] | Any,
    max_size: int,
) -> bytes:
    """Read the whole stream, but at most one byte more than the largest size."""
    content = stream.read(max_size + 1)
    if len(content) > max_size:
        got = f"at least {len(content):,}"
        raise DatasetFormatError(where, f"at most {max_size:,} bytes", got, REPLACE)
    return content


class _BoundedStream:
    """A readable stream that raises DatasetFormatError after a number of bytes.

    Attributes:
        where: Name of the file in errors.
        stream: Stream to read from.
        max_size: Number of bytes that may be read.
        remaining: Number of bytes that may still be read.
    """

    def __init__(
        self,
        where: str,
        stream: Any,
        max_size: int,
    ):
        self.where = where
        self.stream = stream
        self.max_size = max_size
        self.remaining = max_size

    def read(self, size: int) -> bytes:
        # One byte more than allowed shows that there are too many.
        content = self.stream.read(min(size, self.remaining + 1))
        self.remaining -= len(content)
        if self.remaining < 0:
            expected = f"at most {self.max_size:,} bytes unpacked"
            got = f"at least {self.max_size - self.remaining:,}"
            raise DatasetFormatError(self.where, expected, got, REPLACE)
        return content


def _read_members(
    where: str,
    stream: Any,
    max_sizes: Mapping[str, int],
) -> dict[str, bytes]:
    """Read the files of these names from a tar archive; skip all others, of whichever kind."""
    contents = {}
    max_size = sum(max_sizes.values()) + SLACK
    stream = _BoundedStream(where, stream, max_size)
    # Mode "r|" reads the stream once, without seeking: a compressed stream cannot seek cheaply.
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            # tarfile would search for such a member beyond the end, in an endless loop.
            if member.size > max_size:
                expected = f"at most {max_size:,} bytes unpacked"
                got = f"{member.size:,} in one file"
                raise DatasetFormatError(where, expected, got, REPLACE)
            name = member.name
            if name in max_sizes:
                contents[name] = _read_member(f"{where} {name}", archive, member, max_sizes[name])
    # Read to the end of the stream, where gzip has its checksum.
    while stream.read(CHUNK):
        pass
    missing = [name for name in max_sizes if name not in contents]
    if missing:
        expected = f"an archive with {', '.join(missing)}"
        raise DatasetFormatError(where, expected, "one without", REPLACE)
    return contents


def _read_member(
    where: str,
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    max_size: int,
) -> bytes:
    expected = f"a file of at most {max_size:,} bytes"
    # For a link, extractfile would read its target.
    file = archive.extractfile(member) if member.isreg() else None
    if file is None:
        raise DatasetFormatError(
            where,
            expected,
            "a link, a folder or a device",
            REPLACE,
        )
    if member.size > max_size:
        raise DatasetFormatError(
            where,
            expected,
            f"one of {member.size:,}",
            REPLACE,
        )
    return file.read()


@contextmanager
def _damage_as_integrity_error(path: Path) -> Iterator[None]:
    """Raise DatasetIntegrityError for each error that decompression has for damaged files."""
    try:
        yield
    except FnnError:  # some are ValueErrors
        raise
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError, ValueError) as error:
        expected = "a whole file, as published"
        got = f"damage: {error}"
        raise DatasetIntegrityError(str(path), expected, got, REPLACE) from error
