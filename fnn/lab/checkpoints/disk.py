"""Writing what outlives a crash: a file is on the disk, and so is its name, before anyone is told."""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fnn.errors import CheckpointWriteError, ConfigError


@contextmanager
def telling(what: str, place: Path, size: int = 0) -> Iterator[None]:
    """Make an error of the disk a CheckpointWriteError: what was written, how many bytes, and where."""
    try:
        yield
    except OSError as error:
        expected = f"room for {size} bytes" if size else "a place to write in"
        got = f"{error.strerror or error}{_room(place)}"
        told = CheckpointWriteError(
            f"{what} in {place}", expected, got, "make room, or take another place"
        )
        told.errno = error.errno
        raise told from error


def _room(place: Path) -> str:
    """How much is free, as far as can be told."""
    try:
        room = os.statvfs(place)
    except OSError:
        return ""
    return f" ({room.f_bavail * room.f_frsize} bytes free)"


def write_file(path: Path, chunks: Iterable[Any]) -> None:
    """A new file of these bytes, on the disk when this returns; its name is so after `sync`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        for chunk in chunks:
            left = memoryview(chunk)
            while left:
                left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(folder: Path) -> None:
    """Put on the disk what the folder calls its files."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, chunks: Iterable[Any]) -> None:
    """A file of these bytes in place of what was there; at every moment, the path names one of the two, whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write_file(partial, chunks)
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def make_folder(folder: Path) -> None:
    """Make it, and those above it, if they are not there."""
    if not folder.is_dir():
        make_folder(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:
            if not folder.is_dir():
                raise NotADirectoryError(
                    errno.ENOTDIR, "a file is in the way", str(folder)
                ) from None
        sync(folder.parent)


def remove(path: Path) -> None:
    """Remove a folder, a file or a link, if it is there; never what a link points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def as_path(where: str, value: Any) -> Path:
    """The value as a path; ConfigError if it is none."""
    try:
        return Path(os.fsdecode(value)).absolute()
    except (TypeError, ValueError):
        raise ConfigError(
            where, "a path", type(value).__name__, 'give one first, as in "runs/digits"'
        ) from None
