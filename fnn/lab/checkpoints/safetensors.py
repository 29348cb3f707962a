"""Trees in files of safetensors, for others to read."""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fnn.errors import CheckpointCorruptError, ConfigError, DTypeError
from fnn.lab.checkpoints.disk import as_path, replace_file, telling
from fnn.lab.checkpoints.host import on_host
from fnn.lab.checkpoints.manifest import DTYPES
from fnn.lab.checkpoints.reader import foreign
from fnn.lab.checkpoints.restore import fill
from fnn.lab.pretrained import safetensors_for

NAMES = {
    "BOOL": "bool",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
}
NAMES |= {
    f"{name[0].upper()}{bits}": f"{name}{bits}"
    for name in ("int", "uint")
    for bits in (8, 16, 32, 64)
}
NAMES |= {f"F{bits}": f"float{bits}" for bits in (16, 32, 64)}


def export_safetensors(path: str | os.PathLike[str], tree: Any) -> Path:
    """Write a tree into a file of safetensors, its leaves under their paths, and return where it is.

    It is on the disk then, and until then the path names what was there before. DTypeError for a leaf that safetensors
    has no name for, as keys: `lab.save` keeps them. CheckpointWriteError from the disk. Needs fnn[weights].
    """
    safetensors_for("export_safetensors")
    from safetensors.numpy import save

    target = as_path("path", path)
    if not target.parent.is_dir():
        raise ConfigError("path", "a folder that exists", target.parent, "make it first")
    leaves = on_host(tree, copy=False)
    for name, leaf in leaves.items():
        if leaf.dtype not in NAMES.values():
            advice = "leave it out, or keep it by lab.save"
            raise DTypeError(f"tree {name}", "a dtype that safetensors knows", leaf.dtype, advice)
    # The package copies memory as it lies, so it has to lie in order.
    raw = save({name: np.require(leaf.array, requirements="C") for name, leaf in leaves.items()})
    with telling(target.name, target.parent, len(raw)):
        replace_file(target, [raw])
    return target


def import_safetensors(path: str | os.PathLike[str], like: Any, *, cast: bool = False) -> Any:
    """A tree as `like`, of the leaves in a file of safetensors, each found by its path, as `lab.restore` does.

    CheckpointCorruptError for another kind of file, or half of one; CheckpointMismatchError names what does not fit.
    safetensors keeps no digests: a changed bit shows in nothing. Needs fnn[weights].
    """
    safetensors = safetensors_for("import_safetensors")
    target = as_path("path", path)
    if not target.is_file():
        raise ConfigError("path", "a file that exists", target, "check the folder")
    return fill(like, _leaves(safetensors, target), cast=cast)


def _leaves(safetensors: ModuleType, path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        begins = file.read(8)
    kind = foreign(begins)
    try:
        tensors = {} if kind else dict(safetensors.deserialize(path.read_bytes()))
    except safetensors.SafetensorError as error:
        kind = str(error)
    if kind:
        raise CheckpointCorruptError(
            f"file {path.name}", "a whole file of safetensors", kind, "get it once more"
        )
    for name, tensor in tensors.items():
        if tensor["dtype"] not in NAMES:
            raise DTypeError(
                f"file {path.name} {name}",
                f"one of {', '.join(NAMES)}",
                tensor["dtype"],
                "convert it",
            )
    return {
        name: np.frombuffer(tensor["data"], DTYPES[NAMES[tensor["dtype"]]]).reshape(tensor["shape"])
        for name, tensor in tensors.items()
    }
