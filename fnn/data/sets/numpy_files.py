"""Arrays from .npy and .npz files, checked before memory is allocated."""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fnn import checks
from fnn.data.sets.dataset import REPLACE, file_path
from fnn.errors import ConfigError, DatasetFormatError, DatasetIntegrityError, FnnError

CHUNK = 1 << 20  # bytes
MAX_AXES = 64  # of an array of NumPy
HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# Kinds of NumPy dtypes: bool, signed and unsigned integers, floats, complex numbers.
NUMERIC_KINDS = "biufc"


def npy(path: str | Path) -> np.ndarray:
    """Load the array of a .npy file [numpy.lib.format].

    Args:
        path: File of one array of numbers or booleans. Arrays of objects are not read, because
            unpickling can run any code.

    Returns:
        The array, of the stored dtype in native byte order, and of the stored order of axes.

    Raises:
        ConfigError: The file does not exist.
        DatasetFormatError: The file is not a .npy file, holds objects or text, or has another size
            than its header says. The size is compared before memory is allocated.
    """
    with _existing("npy path", path).open("rb") as file:
        size = file.seek(0, 2)  # the end of the file
        file.seek(0)
        return _read_array(f"npy {path}", file, size)


def npz(
    path: str | Path,
    *,
    names: Sequence[str] = ("inputs", "targets"),
    max_bytes: int = 2**30,
) -> tuple[np.ndarray, ...]:
    """Load arrays of equal length from a .npz file, as a pair (inputs, targets).

    Training and test examples in one file make a data set:
    `DataSet(npz(path, names=("x_train", "y_train")), npz(path, names=("x_test", "y_test")))`.

    Args:
        path: File written by numpy.savez or numpy.savez_compressed.
        names: Names of the arrays to load, whose first axis is the example.
        max_bytes: Largest total size of the uncompressed arrays, by default 1 GiB. It keeps a small
            malicious file from filling the memory.

    Returns:
        The arrays, in the order of `names`.

    Raises:
        ConfigError: The file or a name does not exist, or `max_bytes` is not a whole number >= 1.
        DatasetFormatError: As for `npy`; and if the arrays differ in length, or are larger than
            `max_bytes` together.
        DatasetIntegrityError: The file is damaged.
    """
    checks.whole("npz max_bytes", max_bytes)
    is_names = isinstance(names, Sequence) and not isinstance(names, str)
    if not is_names or not names or not all(isinstance(name, str) for name in names):
        advice = 'give them as in ("inputs", "targets")'
        raise ConfigError("npz names", "names of arrays", repr(names), advice)
    where = f"npz {path}"
    try:
        with zipfile.ZipFile(_existing("npz path", path)) as archive:
            arrays = _read_arrays(where, archive, names, max_bytes)
    except (FnnError, MemoryError):
        raise
    except Exception as error:  # zipfile raises exceptions of several classes for damaged files
        got = f"damage: {error}"
        raise DatasetIntegrityError(
            where,
            "a whole .npz file",
            got,
            REPLACE,
        ) from error
    # A scalar has the length ().
    lengths = {array.shape[:1] for array in arrays}
    if len(lengths) > 1:
        got = f"shapes {', '.join(str(array.shape) for array in arrays)}"
        expected = "as many entries in each array"
        raise DatasetFormatError(where, expected, got, "choose other names")
    return tuple(arrays)


def _existing(where: str, path: str | Path) -> Path:
    path = file_path(where, path)
    if not path.is_file():
        raise ConfigError(
            where,
            "a file",
            f"no file {path}",
            "give the path of one",
        )
    return path


def _read_arrays(
    where: str,
    archive: zipfile.ZipFile,
    names: Sequence[str],
    max_bytes: int,
) -> list[np.ndarray]:
    arrays = []
    total = 0
    # The sizes are those of the archive's directory, so they are known before decompression.
    for member in _members(archive, names):
        total += member.file_size
        if total > max_bytes:
            expected = f"at most {max_bytes:,} bytes unpacked"
            advice = "give a larger max_bytes, if you trust the file"
            raise DatasetFormatError(where, expected, f"at least {total:,}", advice)
        with archive.open(member) as stream:
            array = _read_array(f"{where} {member.filename}", stream, member.file_size)
        arrays.append(array)
    return arrays


def _members(archive: zipfile.ZipFile, names: Sequence[str]) -> list[zipfile.ZipInfo]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    missing = [name for name in names if name not in members]
    if missing:
        available = ", ".join(members) or "no arrays"
        expected = f"names among {available} in {archive.filename}"
        raise ConfigError(
            "npz names",
            expected,
            ", ".join(missing),
            "choose some of these",
        )
    return [members[name] for name in names]


def _read_array(
    where: str,
    stream: Any,
    stream_bytes: int,
) -> np.ndarray:
    """Read the array from a stream of `stream_bytes` bytes."""
    try:
        version = np.lib.format.read_magic(stream)
        shape, by_columns, dtype = HEADER_READERS[version](stream)
    # The header is a Python literal, for which NumPy's parser raises exceptions of many classes.
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise DatasetFormatError(where, "a .npy header", got, REPLACE) from error
    if dtype.hasobject or dtype.kind not in NUMERIC_KINDS:
        advice = "store them as such, without objects"
        raise DatasetFormatError(where, "numbers or truth values", dtype, advice)
    # True is an int for NumPy's parser.
    if any(isinstance(length, bool) for length in shape) or len(shape) > MAX_AXES:
        expected = f"a shape of at most {MAX_AXES} whole numbers"
        raise DatasetFormatError(where, expected, shape, REPLACE)
    size = math.prod(shape) * dtype.itemsize
    data_bytes = stream_bytes - stream.tell()
    # Two negative lengths have a positive product.
    if size != data_bytes or min(shape, default=0) < 0:
        factors = " x ".join(map(str, (*shape, dtype)))
        expected = f"{factors} = {size:,} bytes, as the header says"
        raise DatasetFormatError(where, expected, f"{data_bytes:,}", REPLACE)
    buffer = np.empty(size, np.uint8)
    # The directory of an archive may give a wrong size, so the stream may be shorter or longer.
    count = _fill(stream, buffer)
    if count < size or stream.read(1):
        got = f"{count:,}"
        if count == size:
            got = f"at least {size + 1:,}"
        expected = f"{size:,} bytes, as the header says"
        raise DatasetFormatError(where, expected, got, REPLACE)
    array = buffer.view(dtype)
    if not dtype.isnative:
        # In place, since a copy would double the memory.
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    try:
        return array.reshape(shape, order="F" if by_columns else "C")
    except ValueError as error:
        # Of an empty array, the lengths of the other axes may be of any size.
        expected = "a shape that NumPy can hold"
        raise DatasetFormatError(where, expected, f"{shape}: {error}", REPLACE) from error


def _fill(stream: Any, buffer: np.ndarray) -> int:
    """Read into the buffer until it is full or the stream ends; return the number of bytes."""
    done = 0
    while done < len(buffer):
        count = stream.readinto(buffer[done : done + CHUNK])
        if not count:
            break
        done += count
    return done
