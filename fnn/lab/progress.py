"""How far a run is: one live bar where a person looks on, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from tqdm.auto import tqdm

SECONDS_PER_LINE = 5.0
LINE = "{n_fmt}/{total_fmt} steps [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class Report(NamedTuple):
    """What a run tells: that it is compiled, after so many seconds; and where it stands, with figures by name."""

    compiled: Callable[[float], None]
    update: Callable[[int, Mapping[str, Any]], None]


@contextmanager
def reporting(total: int, first: int, show: bool) -> Iterator[Report]:
    """A report to standard error: a bar in a terminal or notebook, else a line every 5 seconds and a last one."""
    if not show:
        yield Report(lambda seconds: None, lambda step, figures: None)
    elif sys.stderr.isatty() or "ipykernel" in sys.modules:
        with tqdm(
            total=total, initial=first, unit="step", dynamic_ncols=True, desc="compiling", file=sys.stderr
        ) as bar:
            yield _bar_report(bar)
    else:
        yield _line_report(total, first)


def _bar_report(bar: tqdm) -> Report:
    def compiled(seconds: float) -> None:
        bar.write(_compiled(seconds), file=sys.stderr)
        bar.set_description("training")
        bar.unpause()

    def update(step: int, figures: Mapping[str, Any]) -> None:
        bar.set_postfix_str(_figures(figures), refresh=False)
        bar.update(step - bar.n)

    return Report(compiled, update)


def _line_report(total: int, first: int) -> Report:
    began = last = time.monotonic()

    def compiled(seconds: float) -> None:
        nonlocal began, last
        _print(_compiled(seconds))
        began = last = time.monotonic()

    def update(step: int, figures: Mapping[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_PER_LINE or step == total:
            last = now
            meter = tqdm.format_meter(
                step, total, now - began, initial=first, unit="step", postfix=_figures(figures), bar_format=LINE
            )
            _print(meter)

    return Report(compiled, update)


def _compiled(seconds: float) -> str:
    return f"compiled in {seconds:.1f} s"


def _figures(figures: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {float(value):.4g}" for name, value in figures.items())


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
