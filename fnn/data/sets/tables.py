"""Tables of numbers in text files, one row for each example."""

import csv as text
import math
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from fnn.data.sets.dataset import Labeled
from fnn.errors import ConfigError, DatasetFormatError

MAX_FLOAT = float(np.finfo(np.float32).max)
INT32_END = 2**31


def csv(
    path: str | Path,
    *,
    target: str,
    delimiter: str = ",",
) -> Labeled:
    """Load a table in a text file, whose first line has the names of the columns.

    Args:
        path: File in UTF-8; fields may be quoted.
        target: Name of the column of targets. All other columns are inputs.
        delimiter: The one character between two fields, such as "," or ";".

    Returns:
        Inputs float32 (n, features) and targets (n,). Targets are int32 if all are whole numbers
        and float32 if all are numbers. If none is a number they are class names, sorted to
        `classes`, and the targets are int32 indices into it; else `classes` is empty.

    Raises:
        ConfigError: The file or the column does not exist, or `delimiter` is not one character.
        DatasetFormatError: A row has another length, an input is not a finite number, some targets
            are numbers and others not, there are no rows, or the text is not UTF-8. The error names
            the line and the column.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            "csv path",
            "a file",
            f"no file {path}",
            "give the path of one",
        )
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ConfigError(
            "csv delimiter",
            "one character",
            repr(delimiter),
            'give one, as ","',
        )
    where = f"csv {path}"
    try:
        # utf-8-sig skips the byte order mark that some spreadsheets write.
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = text.reader(file, delimiter=delimiter, strict=True)
            inputs, targets, features = _read_rows(where, rows, target)
    except (text.Error, UnicodeDecodeError) as error:
        expected = f"a table in UTF-8 with delimiter {delimiter!r}"
        raise DatasetFormatError(
            where,
            expected,
            error,
            "correct the file",
        ) from error
    if not targets:
        expected = "rows below the names of the columns"
        raise DatasetFormatError(where, expected, "0 rows", "add some")
    # (n · features,) to (n, features)
    flat = np.frombuffer(inputs, np.float32)
    matrix = flat.reshape(len(targets), features)
    values, classes = _parse_targets(f"{where} {target}", targets)
    return Labeled((matrix, values), classes)


def _read_rows(
    where: str,
    rows: Any,
    target: str,
) -> tuple[array, list[str], int]:
    """Return the inputs of all rows as one flat array, the target texts, and the features."""
    # An empty file has no first line.
    names = [name.strip() for name in next(rows, [])]
    if names.count(target) != 1:
        expected = f"one of the columns {', '.join(names)}"
        raise ConfigError(
            "csv target",
            expected,
            repr(target),
            "choose one of them",
        )
    target_index = names.index(target)
    input_names = names[:target_index] + names[target_index + 1 :]
    # An array of 4 bytes a number, because a list of Python floats takes 8 times the memory.
    inputs = array("f")
    targets: list[str] = []
    for row in rows:
        if not row:
            continue  # an empty line
        line = f"{where} line {rows.line_num}"
        if len(row) != len(names):
            advice = "complete the row, or remove it"
            raise DatasetFormatError(
                line,
                f"{len(names)} columns",
                len(row),
                advice,
            )
        # The rest of the row are the inputs.
        targets.append(row.pop(target_index).strip())
        for name, field in zip(input_names, row, strict=True):
            inputs.append(_parse_input(f"{line}, {name}", field))
    return inputs, targets, len(input_names)


def _parse_input(where: str, field: str) -> float:
    number = _to_number(field)
    # The negation is true of NaN as well.
    if not abs(number) <= MAX_FLOAT:
        advice = "fill it in, code it as a number, or leave the row or the column out"
        raise DatasetFormatError(
            where,
            "a finite number of float32",
            repr(field),
            advice,
        )
    return number


def _to_number(field: str) -> float:
    """Parse a number; return NaN for other text."""
    try:
        return float(field)
    except ValueError:
        return math.nan


def _parse_targets(where: str, fields: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    numbers = np.array([_to_number(field) for field in fields])
    # False for NaN, hence for text.
    finite = np.abs(numbers) <= MAX_FLOAT
    if not finite.any() and "" not in fields:
        classes, labels = np.unique(fields, return_inverse=True)
        return labels.astype(np.int32), tuple(classes.tolist())
    if not finite.all():
        expected = "finite numbers, or names, in all rows"
        got = repr(fields[int(finite.argmin())])
        raise DatasetFormatError(
            where,
            expected,
            got,
            "correct it, or leave the row out",
        )
    # Whole numbers are labels or counts.
    is_whole = np.all(numbers == np.rint(numbers))
    fits = np.abs(numbers).max() < INT32_END
    dtype = np.int32 if is_whole and fits else np.float32
    return numbers.astype(dtype), ()
