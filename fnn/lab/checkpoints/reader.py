"""Reading a checkpoint back, if it is what was written; else the one before."""

import hashlib
import os
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fnn import checks
from fnn.errors import CheckpointCorruptError, ConfigError
from fnn.lab.checkpoints.disk import as_path
from fnn.lab.checkpoints.folders import found, name_of
from fnn.lab.checkpoints.host import from_bytes
from fnn.lab.checkpoints.manifest import LARGEST, WAY_OUT, Leaf, Manifest, decode, expect

FILES = ("COMMIT", "manifest.json", "data.bin")
# What else is saved in one file, by how it begins: none of it is decoded.
FOREIGN = {
    b"\x80": "pickled Python, which can run any code",
    b"PK\x03\x04": "a zip archive, as of numpy.savez or torch.save",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "HDF5, as of Keras",
}


class Checkpoint(NamedTuple):
    """What was saved: host arrays and keys by path, what was noted, and the SHA-256 of the manifest."""

    step: int
    leaves: Mapping[str, Any]
    notes: Any
    score: float | None
    sha256: str


def read(
    directory: str | os.PathLike[str], *, step: int | str | None = None, sha256: str | None = None
) -> Checkpoint:
    """Read a checkpoint of a directory, every byte of it held against its SHA-256.

    step None is the latest good one: if a later one is corrupt, a warning names both. A number, or "best", the one of
    the lowest score, is that or an error. sha256, of manifest.json as `sha256sum` tells it, pins published weights.
    CheckpointCorruptError names the file and leaf; CheckpointVersionError is of a newer format; ConfigError, if there
    is none.
    """
    path = as_path("directory", directory)
    if step is None and sha256 is None:
        return _latest_good(path)
    return _whole(_chosen(_folders(path), step), sha256)


def manifest_of(folder: Path) -> Manifest:
    """What a checkpoint says of itself, its data not looked at."""
    with _opened(folder) as files:
        return _committed(folder, files)[0]


def lowest(scores: Mapping[int, float | None]) -> int | None:
    """The step of the lowest score, the first of equals; None if none has a score."""
    scored = {step: score for step, score in scores.items() if score is not None}
    return min(sorted(scored), key=scored.__getitem__, default=None)


def foreign(begins: bytes) -> str | None:
    """What a file is that begins so, if it is known to be no file of fnn."""
    return next((kind for magic, kind in FOREIGN.items() if begins.startswith(magic)), None)


def _folders(directory: Path) -> dict[int, Path]:
    if directory.is_file():
        kind = foreign(_beginning(directory)) or "a file"
        advice = "give the folder that lab.save made"
        raise CheckpointCorruptError(str(directory), "a directory of checkpoints", kind, advice)
    if (directory / "manifest.json").exists():
        advice = f'give "{directory.parent}", and step= if it is not the latest'
        raise ConfigError(
            "directory", "a directory of checkpoints", f"one of them, {directory.name}", advice
        )
    folders = found(directory) if directory.is_dir() else {}
    if not folders:
        got = "none" if directory.is_dir() else "no such directory"
        raise ConfigError(
            f"directory {directory}", "checkpoints, as step_000000120", got, "check the path"
        )
    return folders


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


def _latest_good(directory: Path) -> Checkpoint:
    corrupt: dict[str, CheckpointCorruptError] = {}
    for folder in reversed(list(_folders(directory).values())):
        try:
            checkpoint = _whole(folder)
        except CheckpointCorruptError as error:
            if folder.exists():  # else a writer has removed it meanwhile, as an old one
                corrupt[folder.name] = error
            continue
        if corrupt:
            reason = next(iter(corrupt.values()))
            message = f"corrupt: {', '.join(corrupt)} ({reason}); {folder.name} is taken, the latest good checkpoint"
            warnings.warn(message, stacklevel=3)
        return checkpoint
    if corrupt:
        raise next(iter(corrupt.values()))
    return _latest_good(
        directory
    )  # meanwhile, a writer has removed all of them and put others there


def _chosen(folders: Mapping[int, Path], step: int | str | None) -> Path:
    if step is None:
        return folders[max(folders)]
    if isinstance(step, str):
        checks.choice("step", step, ["best"])
        best = lowest({one: manifest_of(folder).score for one, folder in folders.items()})
        if best is None:
            raise ConfigError(
                'step "best"', "a checkpoint with a score", "none has one", "give its number"
            )
        return folders[best]
    if checks.whole("step", step, 0) not in folders:
        raise ConfigError(
            "step",
            f"one of {', '.join(map(str, folders))}",
            step,
            "give one that is there, or None",
        )
    return folders[step]


def _whole(folder: Path, sha256: str | None = None) -> Checkpoint:
    """A checkpoint, its bytes held against its manifest, and that against its commit."""
    with _opened(folder) as files:
        manifest, digest = _committed(folder, files)
        if sha256 is not None:
            expect(
                digest == sha256.lower(),
                f"{_told(folder)}/manifest.json",
                f"SHA-256 {sha256}",
                digest,
            )
        where, size = f"{_told(folder)}/data.bin", os.fstat(files["data.bin"].fileno()).st_size
        expect(
            size == manifest.size, where, f"{manifest.size} bytes", size
        )  # before any memory is taken for them
        leaves = {leaf.path: _leaf(leaf, files["data.bin"], where) for leaf in manifest.leaves}
    return Checkpoint(manifest.step, leaves, manifest.notes, manifest.score, digest)


def _committed(folder: Path, files: Mapping[str, FileIO]) -> tuple[Manifest, str]:
    """The manifest, as it was committed, and its digest."""
    commit = files["COMMIT"].read(66)
    where = f"{_told(folder)}/manifest.json"
    size = os.fstat(files["manifest.json"].fileno()).st_size
    expect(size <= LARGEST, where, f"at most {LARGEST} bytes", size)
    raw = files["manifest.json"].read(size)
    digest = hashlib.sha256(raw).hexdigest()
    if commit != f"{digest}\n".encode():
        got = foreign(raw) or f"SHA-256 {digest}"
        told = f"{where}, COMMIT"
        raise CheckpointCorruptError(
            told, f"one with the SHA-256 in COMMIT, {commit!r}", got, WAY_OUT
        )
    manifest = decode(raw, where)
    expect(
        name_of(manifest.step) == folder.name.partition(".")[0],
        where,
        f"the step of {folder.name}",
        manifest.step,
    )
    return manifest, digest


def _leaf(leaf: Leaf, file: FileIO, where: str) -> Any:
    raw = np.empty(leaf.size, np.uint8)
    left = raw.data
    while left and (count := file.readinto(left)):
        left = left[count:]
    expect(
        not left,
        f"{where} leaf {leaf.path!r}",
        f"{leaf.size} bytes",
        f"{leaf.size - len(left)} bytes",
    )
    digest = hashlib.sha256(raw.data).hexdigest()
    if digest != leaf.sha256:
        told = f"{where} leaf {leaf.path!r}"
        raise CheckpointCorruptError(told, f"SHA-256 {leaf.sha256}", digest, WAY_OUT)
    return from_bytes(leaf, raw, where)


@contextmanager
def _opened(folder: Path) -> Iterator[dict[str, FileIO]]:
    """The three files, all open before one is read, so that no writer can remove one in between."""
    file = folder / FILES[0]
    with ExitStack() as stack:
        try:
            directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, directory)
            files = {}
            for name in FILES:
                file = folder / name
                files[name] = stack.enter_context(_open_plain(directory, name))
            yield files
        except PermissionError as error:
            raise ConfigError(
                str(file), "a file that may be read", error.strerror, "change its permissions"
            ) from None
        except OSError as error:
            where = f"{_told(folder)}/{file.name}"
            raise CheckpointCorruptError(where, "a plain file", error.strerror, WAY_OUT) from None


def _open_plain(directory: int, name: str) -> FileIO:
    """The file of that name, if it is one: no link is followed, no pipe waited for."""
    descriptor = os.open(
        name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory
    )
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "no plain file")
    return FileIO(descriptor, "rb")


def _told(folder: Path) -> str:
    return f"checkpoint {folder.name}"
