"""A log that is a file of lines: whole whenever it was told, and after resuming that of the run that never stopped."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from fnn.errors import ConfigError
from fnn.lab.logs.formats import Format
from fnn.lab.logs.log import Begun, Log, not_begun

CUT = "surrogateescape"  # keeps the bytes of a letter that was cut in two


def file_log(where: str, path: str | os.PathLike[str], form: Format) -> Log:
    """A log into a file of this format; ConfigError where that cannot be."""
    target = expect_file_place(where, path)
    file: IO[bytes] | None = None
    names: tuple[str, ...] = ()

    def begin(begun: Begun) -> None:
        nonlocal file, names
        close()
        lines = _kept(where, target, form, begun)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_text("".join(f"{line}\n" for line in lines), "utf-8", CUT, "\n")
        partial.replace(target)
        file, names = target.open("ab"), begun.names

    def write(steps: np.ndarray, figures: Mapping[str, np.ndarray]) -> None:
        if file is None:
            raise not_begun(where, steps)
        file.write("".join(f"{line}\n" for line in form.lines(names, steps, figures)).encode())
        file.flush()

    def close() -> None:
        nonlocal file
        if file is not None:
            file.close()
        file = None

    return Log(begin=begin, write=write, close=close)


def records(
    where: str, path: Path, form: Format, names: Sequence[str], lines: list[str], first: int
) -> Iterator[tuple[int, dict[str, float]]]:
    """The record of each line, the lines numbered from first; ConfigError at one that is none."""
    for number, line in enumerate(lines, first):
        try:
            yield form.parse(names, line)
        except (ValueError, KeyError, TypeError, AttributeError):
            advice = "mend or drop that line"
            raise ConfigError(
                where, "a log of fnn", f"{line[:80]!r} in line {number} of {path}", advice
            ) from None


def expect_file_place(where: str, path: str | os.PathLike[str]) -> Path:
    """The path, if a file is or may be there; ConfigError otherwise."""
    target = Path(path)
    if target.is_dir():
        raise ConfigError(
            f"{where} path", "a file", f"{target}, a folder", 'name a file in it, as "run.jsonl"'
        )
    if not target.parent.is_dir():
        raise ConfigError(f"{where} path", "a folder that exists", target.parent, "make it first")
    return target


def _kept(where: str, path: Path, form: Format, begun: Begun) -> list[str]:
    """The lines that the file shall begin with: its head, and of the past what the run does not do again."""
    if "step" in begun.names:
        raise ConfigError(
            f"{where} names", "names other than step", ", ".join(begun.names), "rename the metric"
        )
    content, head = path.read_text("utf-8", CUT) if path.exists() else "", form.head(begun.names)
    if not content.startswith(form.begins[: len(content)]):
        raise ConfigError(
            f"{where} path", "a log of this kind, or no file", path, "log to another file"
        )
    *lines, cut = content.split("\n")
    if lines and lines[: len(head)] != head:
        expected, advice = (
            f"a log with the columns {head[0]}",
            "log to another file, or use lab.jsonl_log",
        )
        raise ConfigError(f"{where} path", expected, f"{lines[0]} in {path}", advice)
    past = lines[len(head) :]
    if begun.is_new and (past or cut):
        raise ConfigError(
            f"{where} path",
            "no log yet, as the run begins",
            path,
            "move it away, or log to another file",
        )
    told = records(f"{where} path", path, form, begun.names, past, len(head) + 1)
    return head + [line for line, (step, _) in zip(past, told, strict=True) if step <= begun.step]
