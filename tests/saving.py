"""What the tests of checkpoints share: trees known by their step, and ways to spoil what was saved."""

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np

from fnn import lab

FILES = ("COMMIT", "manifest.json", "data.bin")


def tree_of(step, size=300):
    """A tree that tells of which step it is in every number, without a device."""
    return {
        "params": {
            "kernel": np.arange(size, dtype=np.float32).reshape(-1, 3) + step,
            "bias": np.full(5, step, np.int16),
        },
        "seen": np.array(step, np.int64),
        "mask": np.arange(7) % (step + 2) == 0,
    }


def is_of(checkpoint, step, size=300):
    """Whether the checkpoint holds the tree of that step, bit for bit."""
    expected = {
        "params/kernel": tree_of(step, size)["params"]["kernel"],
        "params/bias": tree_of(step)["params"]["bias"],
    }
    expected |= {name: tree_of(step)[name] for name in ("seen", "mask")}
    return expected.keys() == checkpoint.leaves.keys() and all(
        array.dtype == checkpoint.leaves[path].dtype
        and np.array_equal(array, checkpoint.leaves[path])
        for path, array in expected.items()
    )


def read_quietly(directory, **options):
    """What lab.read gives; any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return lab.read(directory, **options)


def folder_of(directory, step):
    return Path(directory) / f"step_{step:09d}"


def is_clean(directory):
    """Whether nothing lies there but checkpoints and the lock."""
    names = {path.name for path in Path(directory).iterdir()} - {"LOCK"}
    return all(name.startswith("step_") and "." not in name for name in names)


def commit(folder, raw):
    """Write a manifest, and what commits it, as one would who means harm."""
    (folder / "manifest.json").write_bytes(raw)
    (folder / "COMMIT").write_text(f"{hashlib.sha256(raw).hexdigest()}\n")


def rewrite(file, raw):
    """Let the file hold these bytes, never empty in between: for that, file systems wait for the disk."""
    with file.open("r+b") as opened:
        opened.write(raw)
        opened.truncate()


def members_of(folder):
    return json.loads((folder / "manifest.json").read_text())
