"""Tables of numbers in text files, one row for each example."""

import csv as text
import math
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fnn import checks
from fnn.data.sets.dataset import Labeled, file_path
from fnn.data.sets.numbers import (
    FLOAT32_WHOLE,
    MAX_FLOAT,
    is_wide,
    parse_targets,
    to_number,
)
from fnn.errors import ConfigError, DatasetFormatError

# The texts that pandas takes for a missing number.
MISSING = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND"}
MISSING |= {"1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
# What to do with an input that is missing, other than to take a number for it.
RAISE, DROP, MEAN = "raise", "drop", "mean"
ONE_HOT, CODES = "one_hot", "codes"
QUOTE_AND_ENDS = '"\r\n'
# The name that pandas gives to a column without one, and writes to the next file.
UNNAMED = re.compile(r"Unnamed: \d+")


class Column(NamedTuple):
    """A column of inputs.

    Attributes:
        name: Its name in the first line.
        place: Its index in a row.
        categories: Code of each text, from 0; None for a column of numbers.
    """

    name: str
    place: int
    categories: Mapping[str, int] | None


def csv(
    path: str | Path,
    *,
    target: str,
    delimiter: str = ",",
    columns: Sequence[str] | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    encode: str = ONE_HOT,
    missing: str | float = RAISE,
) -> Labeled:
    """Load a table in a text file, whose first line has the names of the columns.

    Numbers are written as in -12, 0.5 or 1e-3; other syntax, as 1_000, is text. Whole numbers keep
    their values.

    Args:
        path: File in UTF-8; fields may be quoted.
        target: Name of the column of targets.
        delimiter: The one character between two fields, such as "," or ";".
        columns: Names of the columns of inputs, in the order of the features. If None, all but the
            target, in the order of the file.
        categories: For each column of texts its texts in the order of their codes, such as
            {"color": ("blue", "red")}; give training and test files the same. For the target, the
            names of the classes in the order of the labels.
        encode: Encoding of an input with categories: "one_hot", a feature of 0 or 1 for each of
            them; "codes", one feature, the index of the category.
        missing: For an input that is empty or NA, N/A, NaN, null or None: "raise" is an error,
            "drop" leaves out the row, "mean" takes the mean of the column in this file, and a
            number is taken for it, nan as well. Of a mean, validation data have to be no part. A
            missing category is encoded as zeros, or as the code -1. A row whose target is missing
            is left out by "drop", and an error otherwise. Texts that `categories` names are never
            missing, such as the code NA of Namibia.

    Returns:
        Inputs (n, features) and targets (n,). Inputs are float32, or float64 if a whole number of
        them is not a number of float32. Targets are int32 or int64 if all are whole numbers and
        float32 if all are numbers, or float64 likewise. If none is a number they are class names,
        sorted to `classes`, and the targets are int32 indices into it; else `classes` is empty.

    Raises:
        ConfigError: The file or a column does not exist, or an option is invalid.
        DatasetFormatError: A row has another length, a column has no name, an input is not a finite
            number and not a category, a target is missing, some targets are numbers and others not,
            a whole number has too many digits, there are no rows, or the text is not UTF-8. The
            error names the column, and for an input the line.
    """
    path = file_path("csv path", path)
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
    # These have another meaning in a table.
    if delimiter in QUOTE_AND_ENDS:
        expected = "a character other than quotes and ends of lines"
        raise ConfigError("csv delimiter", expected, repr(delimiter), 'give one, as ","')
    checks.choice("csv encode", encode, (ONE_HOT, CODES))
    codes = _category_codes(categories or {})
    where = f"csv {path}"
    try:
        # utf-8-sig skips the byte order mark that some spreadsheets write.
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = text.reader(file, delimiter=delimiter, strict=True)
            names = _read_names(rows)
            target_index, chosen = _choose_columns(where, names, target, columns, codes)
            option = _expect_missing(missing)
            # A category of the target may have any text.
            gaps = MISSING - codes.get(target, {}).keys()
            table = _Table(where, names, target_index, chosen, option, gaps)
            table.read(rows)
    except (text.Error, UnicodeDecodeError) as error:
        expected = f"a table in UTF-8 with delimiter {delimiter!r}"
        raise DatasetFormatError(
            where,
            expected,
            error,
            "correct the file",
        ) from error
    if not table.targets:
        expected = "rows below the names of the columns"
        raise DatasetFormatError(where, expected, "0 rows", "add some")
    inputs = _encode(table.inputs(), chosen, encode)
    target_codes = codes.get(target)
    values, classes = parse_targets(f"{where} {target}", table.targets, target_codes, gaps)
    return Labeled((inputs, values), classes)


def _read_names(rows: Iterator[list[str]]) -> list[str]:
    """Return the names of the columns, from the first line that is not empty."""
    for row in rows:
        if row:
            return [name.strip() for name in row]
    expected = "one of the columns that the first line names"
    raise ConfigError("csv target", expected, "an empty file", "add the names")


# Options.


def _category_codes(categories: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    """Return the code of each category, by column."""
    codes = {}
    for name, texts in categories.items():
        is_texts = isinstance(texts, Sequence) and not isinstance(texts, str)
        if not is_texts or not texts or not all(isinstance(one, str) for one in texts):
            expected = "one text or more"
            advice = 'give them as in {"color": ("blue", "red")}'
            raise ConfigError(f"csv categories {name}", expected, repr(texts), advice)
        codes[name] = {one: code for code, one in enumerate(texts)}
        if len(codes[name]) < len(texts):
            advice = "leave out the copies"
            raise ConfigError(f"csv categories {name}", "each text once", repr(texts), advice)
    return codes


def _expect_missing(missing: str | float) -> str | float:
    if isinstance(missing, str):
        return str(checks.choice("csv missing", missing, (RAISE, DROP, MEAN)))
    is_number = isinstance(missing, int | float | np.number) and not isinstance(missing, bool)
    # NaN passes: it marks the places for an imputation later.
    if not is_number or math.isinf(missing):
        expected = f"a number, {RAISE!r}, {DROP!r} or {MEAN!r}"
        raise ConfigError("csv missing", expected, repr(missing), "choose one of them")
    return float(missing)


def _choose_columns(
    where: str,
    names: list[str],
    target: str,
    columns: Sequence[str] | None,
    codes: Mapping[str, Mapping[str, int]],
) -> tuple[int, list[Column]]:
    """Return the index of the target and the columns of inputs."""
    target_index = _column_index("csv target", names, target)
    if columns is None:
        indices = [index for index in range(len(names)) if index != target_index]
        unnamed = [
            index for index in indices if not names[index] or UNNAMED.fullmatch(names[index])
        ]
        # Such as the row numbers that pandas writes: sorted by class, they predict the target.
        if unnamed:
            expected = "a name for each column in the first line"
            advice = "name it, or choose the inputs by columns="
            raise DatasetFormatError(where, expected, f"none for column {unnamed[0] + 1}", advice)
    elif isinstance(columns, str):
        advice = "give a list of them"
        raise ConfigError("csv columns", "names of columns", repr(columns), advice)
    else:
        indices = [_column_index("csv columns", names, name) for name in columns]
    if target_index in indices:
        expected = "columns other than the target"
        raise ConfigError("csv columns", expected, repr(target), "leave it out")
    for name in codes:
        _column_index("csv categories", names, name)
    chosen = [Column(names[index], index, codes.get(names[index])) for index in indices]
    return target_index, chosen


def _column_index(where: str, names: list[str], name: str) -> int:
    if names.count(name) != 1:
        expected = f"one of the columns {', '.join(names)}"
        raise ConfigError(
            where,
            expected,
            repr(name),
            "choose one of them",
        )
    return names.index(name)


# Rows.


class _Table:
    """The rows of a table.

    Attributes:
        where: Name of the file in errors.
        names: Names of the columns.
        target_index: Place of the target in a row.
        columns: The columns of inputs.
        places: Their indices in a row; none if some are no numbers.
        missing: What to do with missing inputs.
        missing_targets: The texts that are missing targets.
        numbers: The inputs row by row: numbers and codes of categories; missing ones are NaN.
        targets: The texts of the targets.
        is_wide: Whether float32 cannot hold one of the whole numbers.
    """

    def __init__(
        self,
        where: str,
        names: list[str],
        target_index: int,
        columns: list[Column],
        missing: str | float,
        missing_targets: Set[str],
    ):
        self.where = where
        self.names = names
        self.target_index = target_index
        self.columns = columns
        is_plain = all(column.categories is None for column in columns)
        self.places = [column.place for column in columns] if is_plain else []
        self.missing = missing
        self.missing_targets = missing_targets
        # An array of 8 bytes a number, because a list of Python floats takes 4 times the memory.
        self.numbers = array("d")
        self.targets: list[str] = []
        self.is_wide = False

    def read(self, rows: Any) -> None:
        """Read all rows of a reader of the module csv."""
        for row in rows:
            if not row:
                continue  # an empty line
            if len(row) != len(self.names):
                line = f"{self.where} line {rows.line_num}"
                advice = "complete the row, or remove it"
                raise DatasetFormatError(
                    line,
                    f"{len(self.names)} columns",
                    len(row),
                    advice,
                )
            target = row[self.target_index].strip()
            if self.missing == DROP and target in self.missing_targets:
                continue
            numbers = self._parse_plain(row)
            if numbers is None:
                line = f"{self.where} line {rows.line_num}"
                numbers = [self._parse(line, column, row[column.place]) for column in self.columns]
            if self.missing == DROP and any(map(math.isnan, numbers)):
                continue
            self.numbers.extend(numbers)
            self.targets.append(target)

    def _parse_plain(self, row: list[str]) -> list[float] | None:
        """Return the inputs of a row of plain numbers; None for any other row.

        Most rows are plain, and checks of whole rows take less time than those of each field.
        """
        fields = [row[place] for place in self.places]
        try:
            numbers = list(map(float, fields))
        except ValueError:
            return None
        joined = "".join(fields)
        if not numbers or "_" in joined or not joined.isascii():
            return None
        # Of numbers with a NaN among them, min and max may be finite.
        is_moderate = min(numbers) >= -FLOAT32_WHOLE and max(numbers) <= FLOAT32_WHOLE
        return numbers if is_moderate and not math.isnan(sum(numbers)) else None

    def _parse(self, line: str, column: Column, field: str) -> float:
        """Return the number or the code of a field; NaN for a missing one."""
        if column.categories is not None:
            return self._code(line, column, field.strip())
        number = to_number(field)
        # A number of moderate size is by far the most frequent case.
        if abs(number) <= FLOAT32_WHOLE:
            return number
        where = f"{line}, {column.name}"
        if math.isnan(number) and field.strip() in MISSING and self.missing != RAISE:
            return math.nan
        # The negation is true of NaN as well.
        if not abs(number) <= MAX_FLOAT:
            advice = (
                "fill it in, as by missing=, code it as a number, as by categories=, or leave the "
                "row or the column out, as by columns="
            )
            raise DatasetFormatError(
                where,
                "a finite number of float32",
                repr(field),
                advice,
            )
        self.is_wide |= is_wide(where, field, number)
        return number

    def _code(self, line: str, column: Column, field: str) -> float:
        categories = column.categories or {}
        if field in categories:
            return float(categories[field])
        if field in MISSING and self.missing != RAISE:
            return math.nan
        where = f"{line}, {column.name}"
        expected = f"one of the categories {', '.join(categories)}"
        advice = "add it to categories=, or correct it"
        raise DatasetFormatError(where, expected, repr(field), advice)

    def inputs(self) -> np.ndarray:
        """Return the numbers and codes as (n, columns); NaN marks the missing codes."""
        # (n · columns,) to (n, columns)
        flat = np.frombuffer(self.numbers, np.float64)
        matrix = flat.reshape(len(self.targets), len(self.columns))
        matrix = matrix.astype(np.float64 if self.is_wide else np.float32)
        if isinstance(self.missing, str) and self.missing != MEAN:
            return matrix
        for index, column in enumerate(self.columns):
            values = matrix[:, index]
            gaps = np.isnan(values)
            if column.categories is None and gaps.any():
                values[gaps] = self._fill(column, values[~gaps])
        return matrix

    def _fill(self, column: Column, known: np.ndarray) -> float:
        if not isinstance(self.missing, str):
            return self.missing
        if not len(known):
            where = f"{self.where} {column.name}"
            advice = "leave the column out by columns="
            raise DatasetFormatError(where, "some numbers to take the mean of", "none", advice)
        return float(known.mean(dtype=np.float64))


def _encode(matrix: np.ndarray, columns: Sequence[Column], encode: str) -> np.ndarray:
    """Replace each column of codes by its features."""
    if all(column.categories is None for column in columns):
        return matrix
    return np.concatenate(list(_features(matrix, columns, encode)), axis=1)


def _features(
    matrix: np.ndarray,
    columns: Sequence[Column],
    encode: str,
) -> Iterator[np.ndarray]:
    for index, column in enumerate(columns):
        values = matrix[:, index : index + 1]
        if column.categories is None:
            yield values
            continue
        codes = np.where(np.isnan(values), -1, values)
        if encode == CODES:
            yield codes
        else:
            # (n, 1) to (n, categories); a code of -1 is none of them.
            yield (codes == np.arange(len(column.categories))).astype(matrix.dtype)
