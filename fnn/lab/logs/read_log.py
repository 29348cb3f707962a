"""A log read back."""

import os
import warnings
from pathlib import Path

import numpy as np

from fnn.errors import ConfigError
from fnn.lab.logs.formats import CSV, JSONL, csv_cells
from fnn.lab.logs.lines import records


def read_log(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The columns of a file that `jsonl_log` or `csv_log` wrote, by name: step as integers, figures as float64.

    A figure that was not told is NaN. A last line that was cut, as by a crash, is left out, with a warning.
    ConfigError for a file that is not there or is no such log.
    """
    source = Path(path)
    if not source.is_file():
        raise ConfigError("read_log path", "a file that exists", source, "check the folder")
    content = source.read_text(encoding="utf-8", errors="replace")
    form = next(
        (form for form in (JSONL, CSV) if content.startswith(form.begins[: len(content)])), None
    )
    if form is None:
        advice = "give one that lab.jsonl_log or lab.csv_log wrote"
        raise ConfigError("read_log path", "a log of fnn", f"{content[:40]!r} in {source}", advice)
    *lines, cut = content.split("\n")
    if cut:
        warnings.warn(
            f"read_log: the last line of {source} was cut, and is left out: {cut[:80]!r}",
            stacklevel=2,
        )
    names = csv_cells(lines[0])[1:] if form is CSV and lines else []
    first = len(form.head(names)) if lines else 0
    told = list(records("read_log path", source, form, names, lines[first:], first + 1))
    names = names or list(dict.fromkeys(name for _, figures in told for name in figures))
    columns = {
        name: np.array([figures.get(name, np.nan) for _, figures in told], float) for name in names
    }
    return {"step": np.array([step for step, _ in told], int)} | columns
