"""Tables of text, a row an example."""

import csv as text
import math
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from fnn.data.sets.dataset import Labeled
from fnn.errors import ConfigError, DatasetFormatError

LARGEST = float(np.finfo(np.float32).max)


def csv(path: str | Path, *, target: str, delimiter: str = ",") -> Labeled:
    """The rows of a table whose first line names its columns: inputs float32 (n, features), all columns but the target.

    The targets are float32 (n,), or int32 where all are whole numbers. Where none is a number they are names of
    classes, and become int32 labels, of which i is called classes[i], in order. ConfigError for no such file
    or column; DatasetFormatError, with the line and the column, for a row of another length and for an input that is no
    finite number; and for text that is no UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError("csv path", "a file", f"{path}, which is none", "give the path of one")
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ConfigError("csv delimiter", "one character", repr(delimiter), 'give one, as ","')
    where = f"csv {path}"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            inputs, targets, width = _rows(
                where, text.reader(file, delimiter=delimiter, strict=True), target
            )
    except (text.Error, UnicodeDecodeError) as error:
        raise DatasetFormatError(
            where, f"a table in UTF-8, cut at {delimiter!r}", error, "save it anew"
        ) from error
    if not targets:
        raise DatasetFormatError(where, "rows below the names of the columns", "none", "add some")
    found, classes = _targets(f"{where} {target}", targets)
    return Labeled((np.frombuffer(inputs, np.float32).reshape(len(targets), width), found), classes)


def _rows(where: str, rows: Any, target: str) -> tuple[array, list[str], int]:
    """The inputs of all rows one after another, the targets as they are written, and how many inputs a row has."""
    names = [name.strip() for name in next(rows, [])]
    if names.count(target) != 1:
        raise ConfigError(
            "csv target",
            f"one of the columns {', '.join(names)}",
            repr(target),
            "choose one of them",
        )
    place = names.index(target)
    others = names[:place] + names[place + 1 :]
    inputs = array("f")
    targets: list[str] = []
    for row in rows:
        if not row:
            continue  # an empty line
        line = f"{where} line {rows.line_num}"
        if len(row) != len(names):
            raise DatasetFormatError(
                line, f"{len(names)} columns", len(row), "complete the row, or take it away"
            )
        targets.append(row.pop(place).strip())
        inputs.extend(
            _input(line, name, written) for name, written in zip(others, row, strict=True)
        )
    return inputs, targets, len(others)


def _input(line: str, name: str, written: str) -> float:
    number = _number(written)
    if not abs(number) <= LARGEST:
        advice = "fill it in, code it as a number, or leave the row or the column out"
        raise DatasetFormatError(
            f"{line}, {name}", "a finite number of float32", repr(written), advice
        )
    return number


def _number(written: str) -> float:
    """The number, and NaN for what is none."""
    try:
        return float(written)
    except ValueError:
        return math.nan


def _targets(where: str, written: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    found = np.array([_number(one) for one in written])
    finite = np.abs(found) <= LARGEST
    if not finite.any() and "" not in written:
        classes, labels = np.unique(written, return_inverse=True)
        return labels.astype(np.int32), tuple(classes.tolist())
    if not finite.all():
        got = repr(written[int(finite.argmin())])
        raise DatasetFormatError(
            where, "finite numbers, or names, in all rows", got, "correct it, or leave the row out"
        )
    whole = np.all(found == np.rint(found)) and np.abs(found).max() < 2**31
    return found.astype(np.int32 if whole else np.float32), ()
