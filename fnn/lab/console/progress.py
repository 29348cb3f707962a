"""Progress of a run: a live bar in a terminal or notebook, plain lines elsewhere."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TextIO

from tqdm.auto import tqdm

SECONDS_PER_LINE = 10.0
# Formats of tqdm for a line that is not a bar, where the number of steps is known and where not.
LINE_FORMAT = "{n_fmt}/{total_fmt} {unit}s [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
ENDLESS_FORMAT = "{n_fmt} {unit}s [{elapsed}, {rate_fmt}{postfix}]"
FILE_COLUMNS = 200  # where there is no terminal to limit the width


class Display(NamedTuple):
    """The output of a run.

    Attributes:
        is_visible: Whether anything is printed.
        print: `(text)` prints one or several lines, above the bar if there is one.
        columns: Width of the output in characters.
        start: `()` when compilation is over and training starts.
        update: `(step, figures)` shows the number of steps done and figures of the last ones.
    """

    is_visible: bool
    print: Callable[[str], None]
    columns: int
    start: Callable[[], None]
    update: Callable[[int, Mapping[str, Any]], None]


@contextmanager
def progress_display(
    total: int | None,
    first: int,
    show: bool,
    unit: str = "step",
) -> Iterator[Display]:
    """Open a display on standard error: a bar in a terminal or notebook, else a line per 10 s.

    Args:
        total: Number of steps of the run, or None where it is not known.
        first: Number of steps done before.
        show: Whether to print anything.
        unit: Name of a step.
    """
    # Programs without a console, such as pythonw and services, have no standard error.
    if not show or sys.stderr is None or getattr(sys.stderr, "closed", False):
        yield _silent_display()
    elif _is_terminal(sys.stderr) or "ipykernel" in sys.modules:
        # A notebook would show standard error as an error.
        stream = sys.stderr if _is_terminal(sys.stderr) else sys.stdout
        with tqdm(
            total=total,
            initial=first,
            unit=unit,
            dynamic_ncols=True,
            desc="compiling",
            file=stream,
        ) as bar:
            yield _bar_display(bar, stream)
    else:
        yield _line_display(total, first, unit)


def _is_terminal(stream: TextIO) -> bool:
    # Streams that graphical programs put in its place may have write alone.
    isatty = getattr(stream, "isatty", None)
    try:
        return isatty is not None and bool(isatty())
    except ValueError:
        # The stream under it is closed.
        return False


def _count_columns(stream: TextIO) -> int:
    """Return the width of the terminal that a stream writes to."""
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (AttributeError, OSError, ValueError):
        # A notebook, for which COLUMNS or a default of 80 is used.
        return shutil.get_terminal_size().columns


def _silent_display() -> Display:
    def ignore(*_: Any) -> None:
        return

    return Display(
        is_visible=False,
        print=ignore,
        columns=FILE_COLUMNS,
        start=ignore,
        update=ignore,
    )


def _bar_display(bar: tqdm, stream: TextIO) -> Display:
    def print_above_bar(text: str) -> None:
        bar.write(text, file=stream)

    def start() -> None:
        bar.set_description("training")
        bar.unpause()  # leaves the time of compilation out of the rate

    def update(step: int, figures: Mapping[str, Any]) -> None:
        # Not refreshed here: the update below redraws the bar, unless it was redrawn just before.
        bar.set_postfix_str(_format_figures(figures), refresh=False)
        bar.update(step - bar.n)  # tqdm counts increments

    return Display(
        is_visible=True,
        print=print_above_bar,
        columns=_count_columns(stream),
        start=start,
        update=update,
    )


def _line_display(total: int | None, first: int, unit: str) -> Display:
    began = time.monotonic()
    last = began  # time of the last line

    def start() -> None:
        nonlocal began, last
        # As for the bar, the rate does not include compilation.
        began = time.monotonic()
        last = began

    def update(step: int, figures: Mapping[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_PER_LINE:
            return
        last = now
        line = tqdm.format_meter(
            step,
            total,
            now - began,
            initial=first,
            unit=unit,
            postfix=_format_figures(figures),
            bar_format=LINE_FORMAT if total else ENDLESS_FORMAT,
        )
        _print_line(line)

    return Display(
        is_visible=True,
        print=_print_line,
        columns=FILE_COLUMNS,
        start=start,
        update=update,
    )


def _format_figures(figures: Mapping[str, Any]) -> str:
    parts = [f"{name} {float(value):.4g}" for name, value in figures.items()]
    return "  ".join(parts)


def _print_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    flush = getattr(sys.stderr, "flush", None)
    if flush is not None:
        flush()
