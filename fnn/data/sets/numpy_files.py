"""Arrays from NumPy's own files."""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fnn import checks
from fnn.data.sets.dataset import ANEW
from fnn.errors import ConfigError, DatasetFormatError, DatasetIntegrityError, FnnError

CHUNK = 1 << 20
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def npy(path: str | Path) -> np.ndarray:
    """The array of a .npy file, of numbers or truth values.

    ConfigError where there is no such file; DatasetFormatError for one that is none, for an array of objects, and for a
    header that tells of another size than the file has, which is compared before memory is taken
    [numpy.lib.format].
    """
    with _existing("npy path", path).open("rb") as file:
        there = file.seek(0, 2)
        file.seek(0)
        return _array(f"npy {path}", file, there)


def npz(
    path: str | Path, *, names: Sequence[str] = ("inputs", "targets"), max_bytes: int = 2**30
) -> tuple[np.ndarray, ...]:
    """The arrays of these names in a .npz file, one entry an example each, so that two make a pair (inputs, targets).

    `DataSet(npz(path, names=("x_train", "y_train")), npz(path, names=("x_test", "y_test")))` makes two parts. Together
    they may unpack to max_bytes. ConfigError where there is no such file or array; DatasetFormatError as for `npy`, and
    for arrays of different length; DatasetIntegrityError for a file that is damaged.
    """
    most, where = checks.whole("npz max_bytes", max_bytes), f"npz {path}"
    try:
        with zipfile.ZipFile(_existing("npz path", path)) as archive:
            arrays = []
            for info in _members(archive, names):
                most -= info.file_size
                if most < 0:
                    advice = "give a larger max_bytes, if you trust the file"
                    raise DatasetFormatError(
                        where, f"at most {max_bytes:,} bytes unpacked", "more", advice
                    )
                with archive.open(info) as stream:
                    arrays.append(_array(f"{where} {info.filename}", stream, info.file_size))
    except (FnnError, MemoryError):
        raise
    except Exception as error:  # zipfile tells of damage in very many ways
        raise DatasetIntegrityError(where, "a whole .npz file", f"damage: {error}", ANEW) from error
    if len({array.shape[:1] for array in arrays}) > 1:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise DatasetFormatError(
            where, "as many entries in each array", f"shapes {shapes}", "choose other names"
        )
    return tuple(arrays)


def _existing(where: str, path: str | Path) -> Path:
    if not Path(path).is_file():
        raise ConfigError(where, "a file", f"{path}, which is none", "give the path of one")
    return Path(path)


def _members(archive: zipfile.ZipFile, names: Sequence[str]) -> list[zipfile.ZipInfo]:
    there = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if missing := [name for name in names if name not in there]:
        found = ", ".join(there) or "none"
        raise ConfigError(
            "npz names", f"names among {found}", ", ".join(missing), "choose some of these"
        )
    return [there[name] for name in names]


def _array(where: str, stream: Any, there: int) -> np.ndarray:
    """The array in a stream of so many bytes."""
    try:
        version = np.lib.format.read_magic(stream)
        shape, by_columns, dtype = READERS[version](stream)
    except Exception as error:  # as many as a parser of Python has
        raise DatasetFormatError(
            where, "a .npy header", f"{type(error).__name__}: {error}", ANEW
        ) from error
    if dtype.hasobject or dtype.kind not in "biufc":
        raise DatasetFormatError(
            where, "numbers or truth values", dtype, "store them as such, without objects"
        )
    size, left = math.prod(shape) * dtype.itemsize, there - stream.tell()
    if size != left or min(shape, default=0) < 0:
        says = f"{' x '.join(map(str, (*shape, dtype)))} = {size:,} bytes, as the header says"
        raise DatasetFormatError(where, says, f"{left:,}", ANEW)
    found = np.empty(size, np.uint8)
    if _fill(stream, found) < size or stream.read(1):
        raise DatasetFormatError(where, f"{size:,} bytes, as it says", "another number", ANEW)
    return found.view(dtype).reshape(shape, order="F" if by_columns else "C")


def _fill(stream: Any, found: np.ndarray) -> int:
    done = 0
    while done < len(found) and (count := stream.readinto(found[done : done + CHUNK])):
        done += count
    return done
