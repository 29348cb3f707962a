"""Durable writes: files and their names are on the disk before a function returns."""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fnn.data.sets.dataset import file_path
from fnn.errors import WriteError


@contextmanager
def write_errors(item: str, directory: Path, size: int = 0) -> Iterator[None]:
    """Convert an OSError into a WriteError that names item, size and directory."""
    try:
        yield
    except OSError as error:
        expected = f"room for {size} bytes" if size else "a directory to write in"
        got = str(error.strerror or error)
        advice = "choose another directory"
        if error.errno == errno.EISDIR:
            expected = "a file"
            got = "a folder of this name"
            advice = "choose another name"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            got += _free_space(directory)
            advice = f"free some space, or {advice}"
        write_error = WriteError(f"{item} in {directory}", expected, got, advice)
        # Callers may ask for errno, as for every OSError.
        write_error.errno = error.errno
        raise write_error from error


def _free_space(directory: Path) -> str:
    """Return the free space as text, or nothing if the system does not say."""
    try:
        status = os.statvfs(directory)
    except OSError:
        return ""
    free = status.f_bavail * status.f_frsize
    return f" ({free} bytes free)"


def write_file(path: Path, chunks: Iterable[Any]) -> None:
    """Write a new file. Its bytes are on the disk on return; its name is after `sync`."""
    # O_EXCL: a file that is there already is an error, and no link is followed.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        for chunk in chunks:
            write_all(descriptor, chunk)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, chunk: Any) -> None:
    """Write all bytes of a chunk to an open file."""
    remaining = memoryview(chunk)
    # The system may write a part at a time.
    while remaining:
        count = os.write(descriptor, remaining)
        remaining = remaining[count:]


def sync(folder: Path) -> None:
    """Flush the names of the files in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, chunks: Iterable[Any]) -> None:
    """Write or replace a file; at every moment the path names the old file or the new one."""
    # A rename would put a file in the place of a device, such as /dev/null.
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "a device, not a file", str(path))
    # The process id keeps two writers apart.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write_file(partial, chunks)
        # Within one folder a rename is atomic.
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, if they do not exist."""
    if folder.is_dir():
        return
    # Parents first; each name is flushed before a file is put below it.
    make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        # Another process may have made it in between; a file with that name is an error.
        if not folder.is_dir():
            message = "a file with the name of a directory"
            raise NotADirectoryError(errno.ENOTDIR, message, str(folder)) from None
    sync(folder.parent)


def remove(path: Path) -> None:
    """Remove a folder, a file or a link if it exists; the target of a link stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def as_path(where: str, value: Any) -> Path:
    """Return the value as an absolute path, or raise ConfigError."""
    return file_path(where, value).absolute()
