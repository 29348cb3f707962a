"""Write a checkpoint to a temporary folder, flush it to the disk, and then give it its name."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from fnn.errors import CheckpointCorruptError, ConfigError
from fnn.lab.checkpoints.folders import clean_up, folder_name, publish
from fnn.lab.checkpoints.host import Stored
from fnn.lab.checkpoints.manifest import Leaf, Manifest, decode, encode
from fnn.lab.disk import remove, sync, write_errors, write_file

NO_DIGEST = "0" * 64


def draft_manifest(
    step: int,
    leaves: Mapping[str, Stored],
    notes: Any,
    score: float | None,
) -> Manifest:
    """Return the manifest without its digests.

    ConfigError if a reader would refuse it, or would read notes that differ from these.
    """
    listed = []
    offset = 0
    for path, leaf in leaves.items():
        # Leaves follow each other without gaps, in the order of the tree.
        listed.append(Leaf(path, leaf.array.shape, leaf.dtype, offset, NO_DIGEST))
        offset += leaf.array.nbytes
    manifest = Manifest(step, score, notes, _versions(), tuple(listed))
    advice = "take dicts with names, lists, strings, finite numbers, booleans and None"
    # The reader itself checks the draft, before anything is written.
    try:
        decoded = decode(encode(manifest), "save")
    except CheckpointCorruptError as error:
        where, expected, got, _ = error.args
        raise ConfigError(
            where,
            expected,
            got,
            "rename it, or leave it out",
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            "notes",
            "a value that JSON can represent",
            error,
            advice,
        ) from None
    if decoded != manifest:
        # JSON turns tuples into lists, and names that are numbers into strings.
        expected = "a value that is the same after a round trip through JSON"
        got = "tuples, or names that are not strings"
        raise ConfigError(
            "notes",
            expected,
            got,
            advice,
        )
    return manifest


def write_checkpoint(directory: Path, manifest: Manifest, leaves: Mapping[str, Stored]) -> None:
    """Write a checkpoint. It is on the disk on return; a WriteError changes nothing."""
    target = directory / folder_name(manifest.step)
    partial = directory / f"{target.name}.partial"
    with write_errors(f"checkpoint {target.name}", directory, manifest.size):
        try:
            remove(partial)
            partial.mkdir()
            _write_files(partial, manifest, leaves)
            # The names of the files have to be on the disk before that of the folder.
            sync(partial)
            publish(partial, target)
        except BaseException:
            # An error of the cleaning must not hide that of the write; the next store cleans again.
            with suppress(OSError):
                clean_up(directory)
            raise


def _write_files(folder: Path, manifest: Manifest, leaves: Mapping[str, Stored]) -> None:
    # One core computes digests while another waits for the disk.
    with ThreadPoolExecutor(1) as pool:
        digests = pool.map(_digest, leaves.values())
        write_file(folder / "data.bin", (leaf.bytes for leaf in leaves.values()))
        with_digests = []
        for leaf, digest in zip(manifest.leaves, digests, strict=True):
            with_digests.append(leaf._replace(sha256=digest))
    raw = encode(manifest._replace(leaves=tuple(with_digests)))
    write_file(folder / "manifest.json", [raw])
    # COMMIT comes last: without it, the checkpoint is not valid.
    commit = f"{hashlib.sha256(raw).hexdigest()}\n"
    write_file(folder / "COMMIT", [commit.encode()])


def _digest(leaf: Stored) -> str:
    return hashlib.sha256(leaf.bytes).hexdigest()


def _versions() -> dict[str, str]:
    try:
        own_version = metadata.version("fnn")
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        own_version = "unknown"
    return {"fnn": own_version, "jax": jax.__version__}
