"""A lock on a directory, for one writer at a time.

The kernel holds the lock and releases it when the process ends, even if it is killed.
"""

import json
import os
import reprlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from fnn.errors import CheckpointLockedError, ConfigError
from fnn.lab.disk import write_errors

LOCK = "LOCK"
# Descriptors of the locks of this process, to be closed in its children.
_descriptors: set[int] = set()


@contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    """Lock a directory against other processes and other stores of this one.

    CheckpointLockedError if it is locked already.
    """
    # O_NOFOLLOW, since the file is truncated: a link could lead to any file of the user.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with write_errors("the lock", directory):
        descriptor = os.open(directory / LOCK, flags, 0o666)
    _descriptors.add(descriptor)
    try:
        with write_errors("the lock", directory):
            # The record is written after the lock is held, so it is that of the holder.
            _acquire(descriptor, directory)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _own_record())
        yield
    finally:
        # In a forked child the descriptor is closed already, and its number may be another file.
        if descriptor in _descriptors:
            _descriptors.remove(descriptor)
            os.close(descriptor)


def _acquire(descriptor: int, directory: Path) -> None:
    try:
        # Imported here, so that reading works on systems without it.
        import fcntl
    except ImportError:
        raise ConfigError(
            "checkpoints",
            "a POSIX system, for its locks",
            os.name,
            "run it on Linux or macOS",
        ) from None
    try:
        # LOCK_NB: a second writer gets an error and does not wait.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CheckpointLockedError(
            f"directory {directory}",
            "no other writer",
            _holder(descriptor),
            "end that one, or take another directory",
        ) from None


def _own_record() -> bytes:
    """Return the content of the lock file, for the message of a second writer."""
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    record = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    return json.dumps(record).encode()


def _holder(descriptor: int) -> str:
    """Describe the process that holds the lock, by its record if it is complete."""
    # The holder may be writing it, and anything else may be in the file.
    raw = os.pread(descriptor, 1000, 0)
    try:
        record = json.loads(raw)
        return f"pid {record['pid']} on {record['host']} since {record['since']}"
    except (ValueError, TypeError, KeyError):
        return f"a writer with the record {reprlib.repr(raw)}"


def _release_in_child() -> None:
    """Close the locks in a forked child, which would hold them after the parent has ended."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
