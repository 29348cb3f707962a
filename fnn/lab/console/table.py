"""The table of a run's epochs, whose columns never change their width."""

from collections.abc import Mapping, Sequence
from typing import Any

from fnn.train.figures import LOSS, is_validation

NARROW, GAP = 9, "  "
EPOCH, TIME, BEST = "epoch", "seconds", "best"


class Table:
    """A line for each epoch: as many of the figures as there is room for, and a mark where it is the best so far."""

    def __init__(self, names: Sequence[str], columns: int, *, marks: bool = True):
        self.names, self.marks = _fitting(names, columns), marks

    def head(self) -> str:
        """The names of the columns, which tell their width."""
        names = [name.rjust(_width(name)) for name in (*self.names, TIME)]
        return GAP.join([EPOCH, *names, *[BEST] * self.marks])

    def row(
        self, epoch: int, figures: Mapping[str, Any], seconds: float, is_best: bool = False
    ) -> str:
        """The line of an epoch."""
        cells = [f"{number(figures[name]):>{_width(name)}}" for name in self.names]
        mark = "*" if is_best else ""
        return GAP.join(
            [f"{epoch:>{len(EPOCH)}}", *cells, f"{seconds:>{_width(TIME)}.1f}", mark]
        ).rstrip()


def number(value: Any) -> str:
    """A number in at most nine characters; a count as it is."""
    if isinstance(value, int):
        return str(value)
    plain = f"{float(value):.4f}"
    return (
        plain
        if value == 0 or (abs(value) >= 1e-3 and len(plain) <= NARROW)
        else f"{float(value):.2e}"
    )


def _width(name: str) -> int:
    return max(len(name), NARROW)


def _fitting(names: Sequence[str], columns: int) -> list[str]:
    """The first names that fit into so many columns, those of validation before the others, in their own order."""
    room = columns - len(EPOCH) - _width(TIME) - len(BEST) - 2 * len(GAP) - 1
    chosen = []
    for name in sorted(names, key=lambda name: (name != LOSS, not is_validation(name))):
        room -= _width(name) + len(GAP)
        if room >= 0:
            chosen.append(name)
    return [name for name in names if name in chosen]
