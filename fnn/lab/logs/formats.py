"""Line formats of log files: JSON lines and comma-separated values."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fnn.errors import ConfigError, ShapeError

Names = Sequence[str]

# JSON has no literals for non-finite numbers. The JSON mapping of protobuf writes these strings,
# and pandas reads them back as numbers.
NONFINITE = {
    "nan": '"NaN"',
    "inf": '"Infinity"',
    "-inf": '"-Infinity"',
}


MAX_DIGITS = 19  # of a step below 2**63


class Format(NamedTuple):
    """Conversion between the records of steps and the lines of a file.

    Attributes:
        prefix: Text that every file of this format starts with.
        header: `(names) -> lines`, the lines before the first record.
        format: `(names, steps, figures) -> lines`, one line per step. `steps` is (n,), and
            `figures` maps each name to an array (n,).
        parse: `(names, line) -> (step, figures)`. Raises ValueError, KeyError, TypeError or
            AttributeError for a line that is not a record.
    """

    prefix: str
    header: Callable[[Names], list[str]]
    format: Callable[[Names, np.ndarray, Mapping[str, Any]], list[str]]
    parse: Callable[[Names, str], tuple[int, dict[str, float]]]


def as_column(name: str, values: Any, steps: np.ndarray) -> np.ndarray:
    """Convert the values of a figure to a numeric array (n,) with one entry per step.

    Raises:
        ShapeError: The array does not have the shape of `steps`.
    """
    array = np.asarray(values)
    if array.shape != steps.shape:
        raise ShapeError(
            f"log {name}",
            f"one number per step, {steps.shape}",
            array.shape,
            "log a part of it, or lab.summarize_runs(...)",
        )
    # Booleans are written as 0 and 1.
    is_bool = array.dtype.kind == "b"
    return array.astype(np.uint8) if is_bool else array


def _texts(name: str, values: Any, steps: np.ndarray) -> list[str]:
    # str() of a NumPy scalar is the shortest decimal that restores its bits in its own dtype:
    # float32's 0.100000001 becomes "0.1".
    array = as_column(name, values, steps)
    return [str(value) for value in array]


def _json_texts(name: str, values: Any, steps: np.ndarray) -> list[str]:
    texts = _texts(name, values, steps)
    return [NONFINITE.get(text, text) for text in texts]


def _json_lines(names: Names, steps: np.ndarray, figures: Mapping[str, Any]) -> list[str]:
    # Formatting one %-template per line is much faster than a call of json.dumps per line.
    # The keys become part of the template, so "%" is doubled in them.
    keys = [json.dumps(name).replace("%", "%%") for name in ("step", *figures)]
    fields = ", ".join(f"{key}: %s" for key in keys)
    template = "{" + fields + "}"
    columns = []
    for name, values in figures.items():
        columns.append(_json_texts(name, values, steps))
    records = zip(steps, *columns, strict=True)
    return [template % record for record in records]


def _json_record(names: Names, line: str) -> tuple[int, dict[str, float]]:
    record = json.loads(line)
    step = _parse_step(str(record.pop("step")))
    figures = {name: float(value) for name, value in record.items()}
    return step, figures


def _parse_step(text: str) -> int:
    """Parse a step; ValueError unless it is a whole number that 64 bits can hold."""
    step = int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else -1
    if not 0 <= step < 2**63:
        raise ValueError(f"step {text[:80]}")
    return step


def _csv_row(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="")
    writer.writerow(cells)
    return text.getvalue()


def csv_cells(line: str) -> list[str]:
    """Split a row of CSV into its cells."""
    rows = csv.reader([line])
    return next(rows, [])


def _csv_lines(names: Names, steps: np.ndarray, figures: Mapping[str, Any]) -> list[str]:
    unknown = figures.keys() - set(names)
    if unknown:
        raise ConfigError(
            "csv_log figures",
            f"a column among {', '.join(names)}",
            ", ".join(sorted(unknown)),
            "name all figures when the run begins, or use lab.jsonl_log",
        )
    columns = []
    for name in names:
        if name in figures:
            columns.append(_texts(name, figures[name], steps))
        else:
            columns.append([""] * len(steps))
    # Numbers need no quotes, so that the rows are joined without the slower csv.writer.
    step_texts = map(str, steps)
    records = zip(step_texts, *columns, strict=True)
    return [",".join(record) for record in records]


def _csv_record(names: Names, line: str) -> tuple[int, dict[str, float]]:
    step, *cells = csv_cells(line)
    figures = {}
    for name, cell in zip(names, cells, strict=True):
        if cell:
            figures[name] = float(cell)
    return _parse_step(step), figures


def _csv_header(names: Names) -> list[str]:
    return [_csv_row(["step", *names])]


JSONL = Format(
    prefix='{"step": ',
    header=lambda names: [],
    format=_json_lines,
    parse=_json_record,
)
CSV = Format(
    prefix="step,",
    header=_csv_header,
    format=_csv_lines,
    parse=_csv_record,
)
