"""Reading of log files."""

import os
import warnings
from pathlib import Path

import numpy as np

from fnn.errors import ConfigError
from fnn.lab.logs.formats import CSV, JSONL, Format, csv_cells
from fnn.lab.logs.lines import parse_lines


def read_log(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a file that `jsonl_log` or `csv_log` wrote.

    A last line that was truncated, as by a crash, is skipped with a warning.

    Args:
        path: The file.

    Returns:
        An array per column: `step` as integers, and each figure as float64, NaN at steps that do
        not have it.

    Raises:
        ConfigError: The file does not exist, or is not a log of fnn.
    """
    source = Path(path)
    if not source.is_file():
        raise ConfigError(
            "read_log path",
            "a file that exists",
            source,
            "check the folder",
        )
    content = source.read_text(encoding="utf-8", errors="replace")
    form = _detect_format(source, content)
    # A whole line ends with a newline, so that the last part is empty unless it was truncated.
    *lines, truncated = content.split("\n")
    if truncated:
        warnings.warn(
            f"read_log: skipped the last line of {source}, which is truncated: {truncated[:80]!r}",
            stacklevel=2,
        )
    names: list[str] = []
    if form is CSV and lines:
        names = csv_cells(lines[0])[1:]  # without "step"
    first = len(form.header(names)) if lines else 0
    records = list(parse_lines("read_log path", source, form, names, lines[first:], first + 1))
    if not names:
        # JSON lines have no header: the columns are all names that occur, in order of occurrence.
        occurring = dict.fromkeys(name for _, figures in records for name in figures)
        names = list(occurring)
    columns = {"step": np.array([step for step, _ in records], int)}
    for name in names:
        values = [figures.get(name, np.nan) for _, figures in records]
        columns[name] = np.array(values, float)
    return columns


def _detect_format(source: Path, content: str) -> Format:
    """Find the format of a file by its first characters, of which there may be few."""
    for form in (JSONL, CSV):
        if content.startswith(form.prefix[: len(content)]):
            return form
    raise ConfigError(
        "read_log path",
        "a log of fnn",
        f"{content[:40]!r} in {source}",
        "give one that lab.jsonl_log or lab.csv_log wrote",
    )
