"""Read checkpoints and verify them; without a step, the latest that is valid."""

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
from fnn.lab.checkpoints.folders import find_checkpoints, folder_name
from fnn.lab.checkpoints.host import from_bytes
from fnn.lab.checkpoints.manifest import ADVICE, MAX_BYTES, Leaf, Manifest, decode, expect
from fnn.lab.disk import as_path

FILES = ("COMMIT", "manifest.json", "data.bin")
# Other formats by their first bytes, for the error message. None of them is decoded.
FOREIGN = {
    b"\x80": "pickled Python, which can run any code",
    b"PK\x03\x04": "a zip archive, as of numpy.savez or torch.save",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "HDF5, as of Keras",
    b"version ": "a pointer of Git LFS, without the content",
}
# The length of the header of a safetensors file, and the brace that opens the header.
SAFETENSORS_HEADER_BYTES = 9
MAX_SAFETENSORS_HEADER = 100_000_000  # the limit of the package
# A digest of 64 characters, a new line, and one more byte to notice a longer file.
COMMIT_BYTES = 66


class Checkpoint(NamedTuple):
    """A checkpoint that was read and verified.

    Attributes:
        step: Its step.
        leaves: Host arrays and keys, by path.
        notes: Its notes, any JSON value.
        score: Its score, the lower the better, or None.
        sha256: SHA-256 of manifest.json, which covers all of it.
    """

    step: int
    leaves: Mapping[str, Any]
    notes: Any
    score: float | None
    sha256: str


def read(
    directory: str | os.PathLike[str],
    *,
    step: int | str | None = None,
    sha256: str | None = None,
) -> Checkpoint:
    """Read a checkpoint and verify every byte by its SHA-256.

    Args:
        directory: A directory of checkpoints.
        step: A step, or "best" for that of the lowest score. None is the latest valid checkpoint;
            if a later one is corrupt, a warning names both.
        sha256: SHA-256 of manifest.json, as `sha256sum` prints it, to pin published weights.

    Returns:
        The Checkpoint, with `leaves` by path, `notes`, `score`, `step` and `sha256`.

    Raises:
        CheckpointCorruptError: The checkpoint is not as it was written; names the file and leaf.
        CheckpointVersionError: It has a newer format.
        ConfigError: There is no such checkpoint.
    """
    path = as_path("directory", directory)
    # With a digest, an older checkpoint would be another one, so the latest is read or fails.
    if step is None and sha256 is None:
        return _read_latest_valid(path)
    folder = _choose(_expect_checkpoints(path), step)
    return _read_verified(folder, sha256)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a checkpoint, without its data."""
    with _open_files(folder) as files:
        manifest, _ = _read_committed(folder, files)
    return manifest


def best_step(scores: Mapping[int, float | None]) -> int | None:
    """Return the step of the lowest score, the first of equals; None if there is no score."""
    scored = {step: score for step, score in scores.items() if score is not None}
    # sorted, so that of equal scores the first step is taken.
    return min(sorted(scored), key=scored.__getitem__, default=None)


def foreign_format(first_bytes: bytes) -> str | None:
    """Return the format of a file that begins so, or None if it may be one of fnn's."""
    # The length of a header may begin with any byte, that of pickled Python too.
    if is_safetensors(first_bytes):
        return None
    for magic, kind in FOREIGN.items():
        if first_bytes.startswith(magic):
            return kind
    return None


def is_safetensors(first_bytes: bytes) -> bool:
    """Return whether a file that begins so is a safetensors file, whole or truncated."""
    length = int.from_bytes(first_bytes[:8], "little")
    return first_bytes[8:SAFETENSORS_HEADER_BYTES] == b"{" and length <= MAX_SAFETENSORS_HEADER


def _expect_checkpoints(directory: Path) -> dict[int, Path]:
    """Return the folders of a directory by step, or raise an error that explains the mistake."""
    # The likely mistakes: a file, a single checkpoint, or a wrong path.
    if directory.is_file():
        first_bytes = _first_bytes(directory)
        kind = foreign_format(first_bytes) or "a file"
        if is_safetensors(first_bytes):
            kind = "a safetensors file, which lab.import_safetensors reads"
        raise CheckpointCorruptError(
            str(directory),
            "a directory of checkpoints",
            kind,
            "give the folder that lab.save made",
        )
    if (directory / "manifest.json").exists():
        raise ConfigError(
            "directory",
            "a directory of checkpoints",
            f"one of them, {directory.name}",
            f'give "{directory.parent}", and step= if it is not the latest',
        )
    exists = directory.is_dir()
    folders = find_checkpoints(directory) if exists else {}
    if not folders:
        raise ConfigError(
            f"directory {directory}",
            "checkpoints, as step_000000120",
            "a directory without any" if exists else "no such directory",
            "check the path",
        )
    return folders


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SAFETENSORS_HEADER_BYTES)


def _read_latest_valid(directory: Path) -> Checkpoint:
    corrupt: dict[str, CheckpointCorruptError] = {}
    folders = list(_expect_checkpoints(directory).values())
    # From the latest to the first.
    for folder in reversed(folders):
        try:
            checkpoint = _read_verified(folder)
        except CheckpointCorruptError as error:
            # A writer may have deleted it meanwhile, as an old one; then it is not corrupt.
            if folder.exists():
                corrupt[folder.name] = error
            continue
        if corrupt:
            reason = next(iter(corrupt.values()))
            message = (
                f"corrupt: {', '.join(corrupt)} ({reason}); {folder.name} is taken, the latest "
                "good checkpoint"
            )
            # The level of the caller of `read`.
            warnings.warn(message, stacklevel=3)
        return checkpoint
    if corrupt:
        raise next(iter(corrupt.values()))
    # Meanwhile a writer has deleted all of them and saved others.
    return _read_latest_valid(directory)


def _choose(folders: Mapping[int, Path], step: int | str | None) -> Path:
    if step is None:
        return folders[max(folders)]
    if isinstance(step, str):
        checks.choice("step", step, ["best"])
        scores = {saved: read_manifest(folder).score for saved, folder in folders.items()}
        best = best_step(scores)
        if best is None:
            raise ConfigError(
                'step "best"',
                "a checkpoint with a score",
                "checkpoints without scores",
                "give its number",
            )
        return folders[best]
    # An explicit step is read or fails: no other one is taken in its place.
    if checks.whole("step", step, 0) not in folders:
        steps = ", ".join(map(str, folders))
        raise ConfigError(
            "step",
            f"one of {steps}",
            step,
            "give one that is there, or None",
        )
    return folders[step]


def _read_verified(folder: Path, sha256: str | None = None) -> Checkpoint:
    """Read a checkpoint: the commit verifies the manifest, and the manifest the data."""
    with _open_files(folder) as files:
        manifest, digest = _read_committed(folder, files)
        if sha256 is not None:
            where = f"{_describe(folder)}/manifest.json"
            expect(digest == sha256.lower(), where, f"SHA-256 {sha256}", digest)
        data = files["data.bin"]
        where = f"{_describe(folder)}/data.bin"
        size = os.fstat(data.fileno()).st_size
        # Before memory is allocated, since a manifest may name any size.
        expect(size == manifest.size, where, f"{manifest.size} bytes", size)
        # The leaves are in the order of their offsets, so the file is read in one pass.
        leaves = {leaf.path: _read_leaf(leaf, data, where) for leaf in manifest.leaves}
    return Checkpoint(manifest.step, leaves, manifest.notes, manifest.score, digest)


def _read_committed(folder: Path, files: Mapping[str, FileIO]) -> tuple[Manifest, str]:
    """Read the manifest and verify it by the commit. Returns the manifest and its digest."""
    commit = files["COMMIT"].read(COMMIT_BYTES)
    where = f"{_describe(folder)}/manifest.json"
    size = os.fstat(files["manifest.json"].fileno()).st_size
    expect(size <= MAX_BYTES, where, f"at most {MAX_BYTES} bytes", size)
    raw = files["manifest.json"].read(size)
    digest = hashlib.sha256(raw).hexdigest()
    # A file of another format is named, as the message about digests would not help.
    if commit != f"{digest}\n".encode():
        raise CheckpointCorruptError(
            f"{where}, COMMIT",
            f"one with the SHA-256 in COMMIT, {commit!r}",
            foreign_format(raw) or f"SHA-256 {digest}",
            ADVICE,
        )
    manifest = decode(raw, where)
    # A folder renamed by hand would be taken for another step. It may end in .replaced.
    step_name = folder.name.partition(".")[0]
    is_step = folder_name(manifest.step) == step_name
    expect(is_step, where, f"the step of {folder.name}", manifest.step)
    return manifest, digest


def _read_leaf(leaf: Leaf, file: FileIO, where: str) -> Any:
    where_leaf = f"{where} leaf {leaf.path!r}"
    raw = np.empty(leaf.size, np.uint8)
    # Read into the memory of the array; the system may return a part at a time.
    remaining = raw.data
    while remaining:
        count = file.readinto(remaining)
        if not count:
            break
        remaining = remaining[count:]
    got = f"{leaf.size - len(remaining)} bytes"
    expect(not remaining, where_leaf, f"{leaf.size} bytes", got)
    # Of the array's memory, without a copy of the bytes.
    digest = hashlib.sha256(raw.data).hexdigest()
    if digest != leaf.sha256:
        raise CheckpointCorruptError(
            where_leaf,
            f"SHA-256 {leaf.sha256}",
            digest,
            ADVICE,
        )
    return from_bytes(leaf, raw, where)


@contextmanager
def _open_files(folder: Path) -> Iterator[dict[str, FileIO]]:
    """Open the three files, all before one is read, so that no writer can delete one in between."""
    # The file of the message, also for an error of the folder.
    file = folder / FILES[0]
    folder_flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with ExitStack() as stack:
        try:
            # The files are opened relative to it, so a renamed folder stays the same.
            directory = os.open(folder, folder_flags)
            stack.callback(os.close, directory)
            files = {}
            for name in FILES:
                file = folder / name
                files[name] = stack.enter_context(_open_regular(directory, name))
            yield files
        # A file that may not be read is not a corrupt one.
        except PermissionError as error:
            raise ConfigError(
                str(file),
                "a file that may be read",
                error.strerror,
                "change its permissions",
            ) from None
        except OSError as error:
            where = f"{_describe(folder)}/{file.name}"
            raise CheckpointCorruptError(
                where,
                "a regular file",
                error.strerror,
                ADVICE,
            ) from None


def _open_regular(directory: int, name: str) -> FileIO:
    """Open a regular file of a folder; OSError for a link, a pipe or a device."""
    # O_NONBLOCK, since opening a pipe would wait for a writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file")
    return FileIO(descriptor, "rb")


def _describe(folder: Path) -> str:
    return f"checkpoint {folder.name}"
