"""Helpers of the tests of checkpoints: trees that depend on the step, and ways to corrupt files."""

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np

from fnn import lab

FILES = ("COMMIT", "manifest.json", "data.bin")


def tree_of(step, size=300):
    """A tree of NumPy arrays whose every number depends on the step."""
    return {
        "params": {
            "kernel": np.arange(size, dtype=np.float32).reshape(-1, 3) + step,
            "bias": np.full(5, step, np.int16),
        },
        "step": np.array(step, np.int64),
        "mask": np.arange(7) % (step + 2) == 0,
    }


def is_of(checkpoint, step, size=300):
    """Whether the checkpoint holds the tree of that step, bit for bit."""
    tree = tree_of(step, size)
    expected = {"params/kernel": tree["params"]["kernel"], "params/bias": tree["params"]["bias"]}
    expected |= {name: tree[name] for name in ("step", "mask")}
    if expected.keys() != checkpoint.leaves.keys():
        return False
    pairs = [(array, checkpoint.leaves[path]) for path, array in expected.items()]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def read_quietly(directory, **options):
    """The result of lab.read; warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return lab.read(directory, **options)


def folder_of(directory, step):
    return Path(directory) / f"step_{step:09d}"


def is_clean(directory):
    """Whether the directory holds only checkpoints and the lock."""
    names = {path.name for path in Path(directory).iterdir()} - {"LOCK"}
    return all(name.startswith("step_") and "." not in name for name in names)


def commit(folder, raw):
    """Write a manifest and the COMMIT file for it, as an attacker could."""
    (folder / "manifest.json").write_bytes(raw)
    (folder / "COMMIT").write_text(f"{hashlib.sha256(raw).hexdigest()}\n")


def rewrite(file, raw):
    """Replace the bytes of a file without truncating it first, which would wait for the disk."""
    with file.open("r+b") as opened:
        opened.write(raw)
        opened.truncate()


def members_of(folder):
    return json.loads((folder / "manifest.json").read_text())
