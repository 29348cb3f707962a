"""How far a run is: one live bar where a person looks on, plain lines elsewhere."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TextIO

from tqdm.auto import tqdm

SECONDS_PER_LINE = 10.0
LINE = "{n_fmt}/{total_fmt} {unit}s [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
ENDLESS = "{n_fmt} {unit}s [{elapsed}, {rate_fmt}{postfix}]"  # where nobody knows the end
WIDE = 200  # columns of a file


class Report(NamedTuple):
    """What a run tells: a line of its own, in so many columns; that training begins; where it stands, with figures."""

    shows: bool
    say: Callable[[str], None]
    columns: int
    begin: Callable[[], None]
    update: Callable[[int, Mapping[str, Any]], None]


@contextmanager
def reporting(total: int | None, first: int, show: bool, unit: str = "step") -> Iterator[Report]:
    """A report to standard error: a bar in a terminal, or in a notebook's output, else a line every 10 seconds."""
    if not show:
        yield Report(False, lambda line: None, WIDE, lambda: None, lambda step, figures: None)
    elif sys.stderr.isatty() or "ipykernel" in sys.modules:
        stream = (
            sys.stderr if sys.stderr.isatty() else sys.stdout
        )  # a notebook shows the former as errors
        with tqdm(
            total=total, initial=first, unit=unit, dynamic_ncols=True, desc="compiling", file=stream
        ) as bar:
            yield _bar_report(bar, stream)
    else:
        yield _line_report(total, first, unit)


def _bar_report(bar: tqdm, stream: TextIO) -> Report:
    def begin() -> None:
        bar.set_description("training")
        bar.unpause()

    def update(step: int, figures: Mapping[str, Any]) -> None:
        bar.set_postfix_str(_figures(figures), refresh=False)
        bar.update(step - bar.n)

    columns = shutil.get_terminal_size().columns
    return Report(True, lambda line: bar.write(line, file=stream), columns, begin, update)


def _line_report(total: int | None, first: int, unit: str) -> Report:
    began = last = time.monotonic()

    def begin() -> None:
        nonlocal began, last
        began = last = time.monotonic()

    def update(step: int, figures: Mapping[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_PER_LINE:
            last = now
            form = LINE if total else ENDLESS
            meter = tqdm.format_meter(
                step,
                total,
                now - began,
                initial=first,
                unit=unit,
                postfix=_figures(figures),
                bar_format=form,
            )
            _print(meter)

    return Report(True, _print, WIDE, begin, update)


def _figures(figures: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {float(value):.4g}" for name, value in figures.items())


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
