"""Trees in safetensors files, for exchange with other libraries."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fnn.errors import CheckpointCorruptError, ConfigError, DTypeError
from fnn.lab.checkpoints.host import to_host
from fnn.lab.checkpoints.manifest import DTYPES
from fnn.lab.checkpoints.reader import SAFETENSORS_HEADER_BYTES, foreign_format
from fnn.lab.checkpoints.restore import fill
from fnn.lab.disk import as_path, replace_file, write_errors
from fnn.types import Shape

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
# Some readers, as older versions of transformers, refuse files without this entry.
METADATA = {"format": "pt"}
RESERVED = "__metadata__"  # the entry of the metadata in the header
# End of the name of a file that lists the shards of a large model.
INDEX = ".index.json"
MAX_NAME_BYTES = 255


class StoredTensor(NamedTuple):
    """The place of a tensor in a safetensors file.

    Attributes:
        path: The file.
        dtype: Its dtype, in the word of safetensors.
        shape: Its shape.
        offset: Its first byte in the file.
        size: Number of bytes.
    """

    path: Path
    dtype: str
    shape: Shape
    offset: int
    size: int


def export_safetensors(
    path: str | os.PathLike[str],
    tree: Any,
    *,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a tree to a safetensors file, its leaves under their paths.

    The file is on the disk on return; until then, the path leads to the file that was there before.
    Needs the extra `weights` of fnn.

    Args:
        path: The file; a file of that name is replaced.
        tree: A pytree of arrays and numbers.
        metadata: Texts by name for the header of the file. The entry "format" is "pt" unless it is
            given, since some readers of other libraries require it.

    Returns:
        The absolute path of the file.

    Raises:
        WriteError: The disk refused it.
        ConfigError: The folder does not exist, `metadata` is not of texts, a leaf has a name that
            a file cannot hold, or the package safetensors is not installed.
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
    entries = _expect_texts(METADATA if metadata is None else metadata)
    # No copy is needed, since the file is written before this returns.
    leaves = to_host(tree, copy=False)
    for name, leaf in leaves.items():
        if name == RESERVED or not _is_utf8(name):
            raise ConfigError(
                "export_safetensors tree",
                f"names in UTF-8, none {RESERVED}",
                repr(name),
                "rename the leaf",
            )
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
    raw = save(arrays, metadata=entries)
    # The old file is replaced in one step by a complete one.
    with write_errors(target.name, target.parent, len(raw)):
        replace_file(target, [raw])
    return target


def _expect_texts(metadata: Any) -> dict[str, str]:
    """Return the entries of the metadata and of METADATA; ConfigError if one is no text."""
    if not isinstance(metadata, Mapping):
        expected = "a dict of texts"
        advice = 'give it as in {"author": "..."}'
        raise ConfigError("export_safetensors metadata", expected, repr(metadata), advice)
    entries = METADATA | dict(metadata)
    for name, text in entries.items():
        where = f"export_safetensors metadata {name}"
        if not isinstance(name, str) or not isinstance(text, str):
            raise ConfigError(where, "a text", repr(text), "convert it by str")
        if not _is_utf8(name) or not _is_utf8(text):
            raise ConfigError(where, "text in UTF-8", repr(text), "replace lone surrogates")
    return entries


def import_safetensors(path: str | os.PathLike[str], like: Any, *, cast: bool = False) -> Any:
    """Read a safetensors file into a tree, each leaf by its path, as `lab.restore` does.

    safetensors stores no digests, so a changed bit is not noticed. Needs the extra `weights`.

    Args:
        path: The file, or the index of the shards of a large model, as
            `model.safetensors.index.json`.
        like: A tree of arrays or jax.ShapeDtypeStruct with the shapes and dtypes to expect.
        cast: Whether other dtypes of the same kind are converted, if no number overflows.

    Raises:
        CheckpointCorruptError: The file is truncated, or of another format.
        CheckpointMismatchError: A leaf is missing, superfluous, or of another shape or dtype.
        ConfigError: The file does not exist, or the package safetensors is not installed.
        DTypeError: The file has a tensor of an unknown dtype.
    """
    safetensors_for("import_safetensors")
    target = as_path("path", path)
    tensors = find_tensors("path", target)
    # The checks of shape and dtype are those of checkpoints.
    leaves = {name: read_tensor(name, tensor) for name, tensor in tensors.items()}
    return fill(like, leaves, cast=cast)


def safetensors_for(where: str) -> Any:
    """Import the package safetensors; ConfigError if it is not installed."""
    try:
        import safetensors
    except ImportError:
        raise ConfigError(
            where,
            "safetensors to read and write with",
            "no such package",
            "pip install '.[weights]' in the checkout of fnn",
        ) from None
    return safetensors


def find_tensors(where: str, path: Path) -> dict[str, StoredTensor]:
    """Find the tensors of a safetensors file, or of all shards of an index, without their data.

    Args:
        where: Name of the path in errors.
        path: The file.

    Raises:
        CheckpointCorruptError: A file is not a complete safetensors file.
        ConfigError: A file does not exist, or the package safetensors is not installed.
    """
    if not path.is_file():
        raise ConfigError(
            where,
            "a file that exists",
            path,
            "check the folder",
        )
    if path.name.endswith(INDEX):
        return _find_in_shards(where, path)
    safetensors = safetensors_for(where)
    try:
        # The package checks the header and the size of the file, so it is asked first: any of the
        # first bytes of other formats may begin a header's length.
        with safetensors.safe_open(path, framework="numpy"):
            pass
    except safetensors.SafetensorError as error:
        with path.open("rb") as file:
            kind = foreign_format(file.read(SAFETENSORS_HEADER_BYTES))
        raise CheckpointCorruptError(
            f"file {path.name}",
            "a complete safetensors file",
            kind or error,
            "get it once more, or export it as such",
        ) from None
    return _read_header(path)


def _read_header(path: Path) -> dict[str, StoredTensor]:
    with path.open("rb") as file:
        # A length in 8 bytes, a table of that length in JSON, the data.
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        end_of_file = file.seek(0, os.SEEK_END)
    tensors = {}
    for name, entry in header.items():
        if name == RESERVED:
            continue
        start, end = entry["data_offsets"]
        offset = 8 + length + start
        tensor = StoredTensor(path, entry["dtype"], tuple(entry["shape"]), offset, end - start)
        dtype = DTYPES.get(NAMES.get(tensor.dtype, ""))
        # The package has compared these, but of names that occur twice it may read the other one.
        fits = dtype is None or math.prod(tensor.shape) * dtype.itemsize == tensor.size
        if not fits or offset + tensor.size > end_of_file:
            raise CheckpointCorruptError(
                f"file {path.name} {name}",
                "a tensor within the file",
                f"bytes {start} to {end}",
                "get it once more",
            )
        tensors[name] = tensor
    return tensors


def _find_in_shards(where: str, path: Path) -> dict[str, StoredTensor]:
    """Find the tensors of all the files that an index lists."""
    try:
        shard_of = json.loads(path.read_bytes())["weight_map"]
        # A path to another folder could read any file.
        is_valid = all(_is_file_name(shard) for shard in shard_of.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise CheckpointCorruptError(
            f"file {path.name}",
            "an index of safetensors files in its folder, by tensor, as weight_map",
            "another content",
            "get it once more",
        )
    tensors = {}
    for shard in sorted(set(shard_of.values())):
        tensors[shard] = find_tensors(where, path.parent / shard)
    found = {}
    for name, shard in shard_of.items():
        if name not in tensors[shard]:
            raise CheckpointCorruptError(
                f"file {shard}",
                f"the tensor {name}, as {path.name} says",
                "none of this name",
                "get all files of one version",
            )
        found[name] = tensors[shard].pop(name)
    for shard, unlisted in tensors.items():
        if unlisted:
            raise CheckpointCorruptError(
                f"file {path.name}",
                f"an entry for each tensor of {shard}",
                f"none for {next(iter(unlisted))}",
                "get all files of one version",
            )
    return found


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_file_name(name: Any) -> bool:
    if not isinstance(name, str) or name.endswith(INDEX):
        return False
    is_plain = name == Path(name).name and name not in ("", "..")
    # Longer names than file systems have.
    return is_plain and len(name.encode(errors="replace")) <= MAX_NAME_BYTES


def read_tensor(name: str, tensor: StoredTensor) -> np.ndarray:
    """Read the data of a tensor; DTypeError for a dtype without an array type here."""
    if NAMES.get(tensor.dtype) not in DTYPES:
        raise DTypeError(
            f"file {tensor.path.name} {name}",
            f"one of {', '.join(NAMES)}",
            tensor.dtype,
            "convert it",
        )
    # Bytes, and no mapped memory: the arrays outlive the file.
    raw = np.fromfile(tensor.path, np.uint8, tensor.size, offset=tensor.offset)
    return raw.view(DTYPES[NAMES[tensor.dtype]]).reshape(tensor.shape)
