"""One writer at a time. The kernel holds the lock, and frees it when the holder dies, however it dies."""

import json
import os
import reprlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from fnn.errors import CheckpointLockedError, ConfigError
from fnn.lab.checkpoints.disk import telling

LOCK = "LOCK"
_held: set[int] = set()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Within, no other process, and no one else in this one, holds the directory; CheckpointLockedError if one does."""
    with telling("the lock", directory):
        descriptor = os.open(
            directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
        )
    _held.add(descriptor)
    try:
        with telling("the lock", directory):
            _take(descriptor, directory)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _holder())
        yield
    finally:
        if descriptor in _held:  # not in a child, which has let go of it
            _held.remove(descriptor)
            os.close(descriptor)


def _take(descriptor: int, directory: Path) -> None:
    try:
        import fcntl
    except ImportError:
        raise ConfigError(
            "checkpoints", "a POSIX system, for its locks", os.name, "run it on Linux or macOS"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        advice = "end that one, or take another directory"
        raise CheckpointLockedError(
            f"directory {directory}", "no other writer", _told(descriptor), advice
        ) from None


def _holder() -> bytes:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode()


def _told(descriptor: int) -> str:
    """What the holder wrote of itself, as far as it has."""
    raw = os.pread(descriptor, 1000, 0)
    try:
        holder = json.loads(raw)
        return f"pid {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, TypeError, KeyError):
        return f"one who wrote {reprlib.repr(raw)}"


def _let_go() -> None:
    """In a forked child: else it would hold the lock of a parent that has died."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
