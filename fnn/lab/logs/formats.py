"""How the records of steps stand in lines: as JSON, or as rows of a table."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fnn.errors import ConfigError, ShapeError

Names = Sequence[str]
# JSON knows no number that is not finite; protobuf writes them as these strings, and pandas reads them back.
WILD = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}


class Format(NamedTuple):
    """How records become lines, and lines records again.

    begins: with what every file begins.
    head:   (names) -> the lines before the records
    lines:  (names, steps, figures of each step by name) -> a line a step
    parse:  (names, line) -> (step, figures); ValueError, KeyError or TypeError for what is no record
    """

    begins: str
    head: Callable[[Names], list[str]]
    lines: Callable[[Names, np.ndarray, Mapping[str, Any]], list[str]]
    parse: Callable[[Names, str], tuple[int, dict[str, float]]]


def column(name: str, values: Any, steps: np.ndarray) -> np.ndarray:
    """The figures of the steps as an array of numbers; ShapeError unless there is one a step."""
    array = np.asarray(values)
    if array.shape != steps.shape:
        advice = "tell a part of it, or lab.summarize_runs(...)"
        raise ShapeError(f"log {name}", f"one number a step, {steps.shape}", array.shape, advice)
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def _texts(name: str, values: Any, steps: np.ndarray) -> list[str]:
    """Each as the shortest decimal that gives its bits back in its own dtype: 0.1 for float32's 0.100000001."""
    return [str(value) for value in column(name, values, steps)]


def _json_lines(names: Names, steps: np.ndarray, figures: Mapping[str, Any]) -> list[str]:
    keys = [json.dumps(name).replace("%", "%%") for name in ("step", *figures)]
    line = "{" + ", ".join(f"{key}: %s" for key in keys) + "}"
    told = [
        [WILD.get(text, text) for text in _texts(name, values, steps)]
        for name, values in figures.items()
    ]
    return [line % record for record in zip(steps, *told, strict=True)]


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


def _csv_lines(names: Names, steps: np.ndarray, figures: Mapping[str, Any]) -> list[str]:
    if unknown := figures.keys() - set(names):
        advice = "tell all names as the run begins, or use lab.jsonl_log"
        raise ConfigError(
            "csv_log figures",
            f"a column among {', '.join(names)}",
            ", ".join(sorted(unknown)),
            advice,
        )
    empty = [""] * len(steps)
    told = [_texts(name, figures[name], steps) if name in figures else empty for name in names]
    return [
        ",".join(record) for record in zip(map(str, steps), *told, strict=True)
    ]  # numbers need no quotes


def _csv_record(names: Names, line: str) -> tuple[int, dict[str, float]]:
    step, *cells = csv_cells(line)
    return int(step), {name: float(cell) for name, cell in zip(names, cells, strict=True) if cell}


JSONL = Format('{"step": ', lambda names: [], _json_lines, _json_record)
CSV = Format("step,", lambda names: [_csv_row(["step", *names])], _csv_lines, _csv_record)
