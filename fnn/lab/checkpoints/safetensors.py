"""Trees in safetensors files, for exchange with other libraries."""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fnn.errors import CheckpointCorruptError, ConfigError, DTypeError
from fnn.lab.checkpoints.host import to_host
from fnn.lab.checkpoints.manifest import DTYPES
from fnn.lab.checkpoints.reader import foreign_format
from fnn.lab.checkpoints.restore import fill
from fnn.lab.disk import as_path, replace_file, write_errors
from fnn.lab.pretrained import safetensors_for

# The names of dtypes in a safetensors file, and those of NumPy and JAX.
NAMES = {
    "BOOL": "bool",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
}


def export_safetensors(path: str | os.PathLike[str], tree: Any) -> Path:
    """Write a tree to a safetensors file, its leaves under their paths.

    The file is on the disk on return; until then, the path leads to the file that was there before.
    Needs the extra `weights` of fnn.

    Args:
        path: The file; a file of that name is replaced.
        tree: A pytree of arrays and numbers.

    Returns:
        The absolute path of the file.

    Raises:
        WriteError: The disk refused it.
        ConfigError: The folder does not exist, or the package safetensors is not installed.
        DTypeError: A leaf has a dtype that safetensors has no name for, such as keys, which
            `lab.save` keeps.
    """
    safetensors_for("export_safetensors")
    # An optional package, so it is imported only here, after the check.
    from safetensors.numpy import save

    target = as_path("path", path)
    if not target.parent.is_dir():
        raise ConfigError(
            "path",
            "a folder that exists",
            target.parent,
            "make it first",
        )
    # No copy is needed, since the file is written before this returns.
    leaves = to_host(tree, copy=False)
    for name, leaf in leaves.items():
        if leaf.dtype not in NAMES.values():
            raise DTypeError(
                f"tree {name}",
                "a dtype that safetensors knows",
                leaf.dtype,
                "leave it out, or keep it by lab.save",
            )
    # The package copies memory as it lies, so arrays have to be in C order.
    arrays = {}
    for name, leaf in leaves.items():
        arrays[name] = np.require(leaf.array, requirements="C")
    raw = save(arrays)
    # The old file is replaced in one step by a complete one.
    with write_errors(target.name, target.parent, len(raw)):
        replace_file(target, [raw])
    return target


def import_safetensors(path: str | os.PathLike[str], like: Any, *, cast: bool = False) -> Any:
    """Read a safetensors file into a tree, each leaf by its path, as `lab.restore` does.

    safetensors stores no digests, so a changed bit is not noticed. Needs the extra `weights`.

    Args:
        path: The file.
        like: A tree of arrays or jax.ShapeDtypeStruct with the shapes and dtypes to expect.
        cast: Whether other dtypes of the same kind are converted, if no number overflows.

    Raises:
        CheckpointCorruptError: The file is truncated, or of another format.
        CheckpointMismatchError: A leaf is missing, superfluous, or of another shape or dtype.
        ConfigError: The file does not exist, or the package safetensors is not installed.
        DTypeError: The file has a tensor of an unknown dtype.
    """
    safetensors = safetensors_for("import_safetensors")
    target = as_path("path", path)
    if not target.is_file():
        raise ConfigError(
            "path",
            "a file that exists",
            target,
            "check the folder",
        )
    # The checks of shape and dtype are those of checkpoints.
    return fill(like, _read_tensors(safetensors, target), cast=cast)


def _read_tensors(safetensors: ModuleType, path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        first_bytes = file.read(8)
    # Other formats are refused by their first bytes and never decoded.
    problem = foreign_format(first_bytes)
    tensors = {}
    if problem is None:
        try:
            tensors = dict(safetensors.deserialize(path.read_bytes()))
        except safetensors.SafetensorError as error:
            problem = str(error)
    if problem:
        raise CheckpointCorruptError(
            f"file {path.name}",
            "a complete safetensors file",
            problem,
            "get it once more",
        )
    arrays = {}
    for name, tensor in tensors.items():
        stored_dtype = tensor["dtype"]
        if stored_dtype not in NAMES:
            raise DTypeError(
                f"file {path.name} {name}",
                f"one of {', '.join(NAMES)}",
                stored_dtype,
                "convert it",
            )
        # A view of the bytes; `fill` copies it into the tree.
        dtype = DTYPES[NAMES[stored_dtype]]
        arrays[name] = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
    return arrays
