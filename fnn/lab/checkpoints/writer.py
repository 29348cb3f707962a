"""A checkpoint is written beside its place, put on the disk, and only then given its name."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from fnn.errors import CheckpointCorruptError, ConfigError
from fnn.lab.checkpoints.disk import remove, sync, telling, write_file
from fnn.lab.checkpoints.folders import name_of, put, sweep
from fnn.lab.checkpoints.host import Stored
from fnn.lab.checkpoints.manifest import Leaf, Manifest, decode, encode

BLANK = "0" * 64


def draft(step: int, leaves: Mapping[str, Stored], notes: Any, score: float | None) -> Manifest:
    """The manifest without its digests; ConfigError for what a reader would refuse, or would read as something else."""
    listed, offset = [], 0
    for path, leaf in leaves.items():
        listed.append(Leaf(path, leaf.array.shape, leaf.dtype, offset, BLANK))
        offset += leaf.array.nbytes
    manifest = Manifest(step, score, notes, _made_by(), tuple(listed))
    advice = "take dicts with names, lists, strings, finite numbers, booleans and None"
    try:
        read = decode(encode(manifest), "save")
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointCorruptError):
            where, expected, got, _ = error.args
            raise ConfigError(where, expected, got, "call it otherwise, or leave it out") from None
        raise ConfigError("notes", "what JSON can hold", error, advice) from None
    if read != manifest:
        raise ConfigError(
            "notes", "what comes back from JSON as it was", "tuples, or names that are none", advice
        )
    return manifest


def write(directory: Path, manifest: Manifest, leaves: Mapping[str, Stored]) -> None:
    """Write a checkpoint; it is on the disk when this returns. CheckpointWriteError leaves all as it was."""
    target = directory / name_of(manifest.step)
    partial = directory / f"{target.name}.partial"
    with telling(f"checkpoint {target.name}", directory, manifest.size):
        try:
            remove(partial)
            partial.mkdir()
            _write_files(partial, manifest, leaves)
            sync(partial)
            put(partial, target)
        except BaseException:
            with suppress(OSError):
                sweep(directory)
            raise


def _write_files(folder: Path, manifest: Manifest, leaves: Mapping[str, Stored]) -> None:
    with ThreadPoolExecutor(1) as other:  # one core hashes while another waits for the disk
        digests = other.map(lambda leaf: hashlib.sha256(leaf.bytes).hexdigest(), leaves.values())
        write_file(folder / "data.bin", (leaf.bytes for leaf in leaves.values()))
        pairs = zip(manifest.leaves, digests, strict=True)
        whole = manifest._replace(
            leaves=tuple(leaf._replace(sha256=digest) for leaf, digest in pairs)
        )
    raw = encode(whole)
    write_file(folder / "manifest.json", [raw])
    write_file(folder / "COMMIT", [f"{hashlib.sha256(raw).hexdigest()}\n".encode()])


def _made_by() -> dict[str, str]:
    try:
        own = metadata.version("fnn")
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        own = "unknown"
    return {"fnn": own, "jax": jax.__version__}
