"""How the record of a step stands in a line: as JSON, or as a row of a table."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fnn.errors import ConfigError, ShapeError

Names = Sequence[str]


class Format(NamedTuple):
    """How records become lines, and lines records again.

    begins: with what every file begins.
    head:   (names) -> the lines before the records
    line:   (names, step, figures) -> line
    parse:  (names, line) -> (step, figures); ValueError, KeyError or TypeError for what is no record
    """

    begins: str
    head: Callable[[Names], list[str]]
    line: Callable[[Names, int, Mapping[str, Any]], str]
    parse: Callable[[Names, str], tuple[int, dict[str, float]]]


def plain(name: str, value: Any) -> float:
    """The figure as the shortest decimal that gives its bits back in its own dtype: 0.1 for float32's 0.100000001."""
    array = value if isinstance(value, np.generic) else np.asarray(value)  # of a run's many figures, all are
    if array.shape:
        raise ShapeError(
            f"log {name}", "one number", f"shape {array.shape}", "tell a part of it, or lab.population(...)"
        )
    return float(array) if array.dtype.kind == "b" else float(str(array))


def _json_line(names: Names, step: int, figures: Mapping[str, Any]) -> str:
    return json.dumps({"step": int(step)} | {name: _json_number(plain(name, value)) for name, value in figures.items()})


def _json_number(number: float) -> float | str:
    """JSON knows no number that is not finite; protobuf writes them as these strings, and pandas reads them back."""
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _json_record(names: Names, line: str) -> tuple[int, dict[str, float]]:
    record = json.loads(line)
    return int(record.pop("step")), {name: float(value) for name, value in record.items()}


def _csv_row(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def csv_cells(line: str) -> list[str]:
    """The cells of a row."""
    return next(csv.reader([line]), [])


def _csv_line(names: Names, step: int, figures: Mapping[str, Any]) -> str:
    if unknown := figures.keys() - set(names):
        advice = "tell all names as the run begins, or use lab.jsonl_log"
        raise ConfigError("csv_log figures", f"a column among {', '.join(names)}", ", ".join(sorted(unknown)), advice)
    return _csv_row([int(step), *(plain(name, figures[name]) if name in figures else "" for name in names)])


def _csv_record(names: Names, line: str) -> tuple[int, dict[str, float]]:
    step, *cells = csv_cells(line)
    return int(step), {name: float(cell) for name, cell in zip(names, cells, strict=True) if cell}


JSONL = Format('{"step": ', lambda names: [], _json_line, _json_record)
CSV = Format("step,", lambda names: [_csv_row(["step", *names])], _csv_line, _csv_record)
