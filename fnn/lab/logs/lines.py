"""A log that is a text file with one line per step."""

import os
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path

import numpy as np

from fnn.data.sets.dataset import file_path
from fnn.errors import ConfigError
from fnn.lab.disk import replace_file, write_all, write_errors
from fnn.lab.logs.formats import Format
from fnn.lab.logs.log import Log, RunInfo, not_begun_error

# Keeps the bytes of a truncated UTF-8 character, so that reading and writing is lossless.
DECODE_ERRORS = "surrogateescape"


def file_log(where: str, path: str | os.PathLike[str], form: Format) -> Log:
    """Make a log that appends lines of a format to a file.

    Args:
        where: Name of the caller, for error messages.
        path: The file.
        form: Format of the lines.

    Raises:
        ConfigError: `path` is a folder, or its folder does not exist.
    """
    target = expect_file_path(where, path)
    file: FileIO | None = None
    item = f"log {target.name}"
    names: tuple[str, ...] = ()

    def begin(info: RunInfo) -> None:
        nonlocal file, names
        close()
        lines = _initial_lines(where, target, form, info)
        content = "".join(f"{line}\n" for line in lines)
        with write_errors(item, target.parent):
            # The file is replaced atomically: a crash here leaves the old log whole.
            replace_file(target, [content.encode(errors=DECODE_ERRORS)])
            # Unbuffered, so that other programs can read a line as soon as it is logged.
            file = FileIO(target, "a")
        names = info.names

    def write(steps: np.ndarray, figures: Mapping[str, np.ndarray]) -> None:
        if file is None:
            raise not_begun_error(where, steps)
        lines = form.format(names, steps, figures)
        content = "".join(f"{line}\n" for line in lines)
        with write_errors(item, target.parent):
            write_all(file.fileno(), content.encode())

    def close() -> None:
        nonlocal file
        if file is not None:
            file.close()
        file = None

    return Log(begin=begin, write=write, close=close)


def parse_lines(
    where: str,
    path: Path,
    form: Format,
    names: Sequence[str],
    lines: list[str],
    first_number: int,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Parse each line to (step, figures).

    Args:
        where: Name of the argument, for error messages.
        path: The file, for error messages.
        form: Format of the lines.
        names: Names of the columns.
        lines: The lines to parse.
        first_number: Line number of `lines[0]` in the file, for error messages.

    Raises:
        ConfigError: A line is not a record of this format.
    """
    for number, line in enumerate(lines, first_number):
        try:
            yield form.parse(names, line)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise ConfigError(
                where,
                "a log of fnn",
                f"{line[:80]!r} in line {number} of {path}",
                "correct or delete that line",
            ) from None


def expect_file_path(where: str, path: str | os.PathLike[str]) -> Path:
    """Return the path, or raise ConfigError where a file cannot be written."""
    target = file_path(f"{where} path", path)
    if target.is_dir():
        raise ConfigError(
            f"{where} path",
            "a file",
            f"{target}, a folder",
            'name a file in it, as "run.jsonl"',
        )
    if not target.parent.is_dir():
        raise ConfigError(
            f"{where} path",
            "a folder that exists",
            target.parent,
            "make it first",
        )
    return target


def _initial_lines(where: str, path: Path, form: Format, info: RunInfo) -> list[str]:
    """Return the header and the records up to the step at which the run begins or resumes."""
    if "step" in info.names:
        raise ConfigError(
            f"{where} names",
            "names other than step",
            ", ".join(info.names),
            "rename the metric",
        )
    content = ""
    if path.exists():
        content = path.read_text(encoding="utf-8", errors=DECODE_ERRORS)
    # A crash may have truncated the file anywhere, also within its first line.
    expected_start = form.prefix[: len(content)]
    if not content.startswith(expected_start):
        raise ConfigError(
            f"{where} path",
            "a log of this kind, or a new file",
            path,
            "log to another file",
        )
    # The part after the last newline is empty, or a line that a crash truncated.
    *lines, truncated = content.split("\n")
    header = form.header(info.names)
    if lines and lines[: len(header)] != header:
        raise ConfigError(
            f"{where} path",
            f"a log with the columns {header[0]}",
            f"{lines[0]} in {path}",
            "log to another file, or use lab.jsonl_log",
        )
    past = lines[len(header) :]
    # A header alone is the log of a run that was stopped before its first step.
    if info.is_new and (past or truncated):
        raise ConfigError(
            f"{where} path",
            "an empty or new file when a run begins",
            f"the log {path}",
            "move it away, or log to another file",
        )
    records = parse_lines(f"{where} path", path, form, info.names, past, len(header) + 1)
    # The run will do the later steps again.
    kept = []
    last_step = 0
    for line, (step, _) in zip(past, records, strict=True):
        if step <= info.step:
            kept.append(line)
            last_step = step
    # Lines that never reached the file, as on a full disk, are those of the saved history.
    for steps, figures in info.past(last_step):
        kept += form.format(info.names, steps, figures)
    return header + kept
