"""Table of the epochs of a run, with columns of fixed width."""

from collections.abc import Mapping, Sequence
from typing import Any

from fnn.train.figures import LOSS, is_validation

NUMBER_WIDTH = 9
GAP = "  "
EPOCH = "epoch"
TIME = "seconds"
BEST = "best"


class Table:
    """Formats a table with one line per epoch and as many figures as fit.

    Args:
        names: Names of the figures, in order.
        columns: Width of the output in characters.
        marks: Whether a last column marks the best epoch so far.
    """

    def __init__(self, names: Sequence[str], columns: int, *, marks: bool = True):
        self.names = _fitting_names(names, columns)
        self.marks = marks

    def head(self) -> str:
        """Format the names of the columns. They also give the width of each column."""
        cells = [EPOCH]
        for name in (*self.names, TIME):
            cells.append(name.rjust(_width(name)))
        if self.marks:
            cells.append(BEST)
        return GAP.join(cells)

    def row(
        self,
        epoch: int,
        figures: Mapping[str, Any],
        seconds: float,
        is_best: bool = False,
    ) -> str:
        """Format the line of an epoch."""
        cells = [f"{epoch:>{len(EPOCH)}}"]
        for name in self.names:
            number = format_number(figures[name])
            cells.append(number.rjust(_width(name)))
        cells.append(f"{seconds:>{_width(TIME)}.1f}")
        # Without a mark the last cell is empty, and its gap is cut.
        cells.append("*" if is_best else "")
        return GAP.join(cells).rstrip()


def format_number(value: Any) -> str:
    """Format a float in at most nine characters, and an int in full."""
    if isinstance(value, int):
        return str(value)
    # Zero is shown as 0.0000; other numbers that this would hide are shown in scientific notation.
    fixed = f"{float(value):.4f}"
    fits = abs(value) >= 1e-3 and len(fixed) <= NUMBER_WIDTH
    if value == 0 or fits:
        return fixed
    return f"{float(value):.2e}"


def _width(name: str) -> int:
    return max(len(name), NUMBER_WIDTH)


def _fitting_names(names: Sequence[str], columns: int) -> list[str]:
    """Select the names that fit into the width, in their given order."""
    # Of the width, the other columns and their two gaps are taken; the last character stays free.
    fixed = len(EPOCH) + _width(TIME) + len(BEST)
    gaps = 2 * len(GAP)
    room = columns - fixed - gaps - 1
    # A name that does not fit is skipped, but a shorter one after it may fit.
    chosen = []
    for name in sorted(names, key=_priority):
        room -= _width(name) + len(GAP)
        if room >= 0:
            chosen.append(name)
    return [name for name in names if name in chosen]


def _priority(name: str) -> tuple[bool, bool]:
    """Sort the loss first, then the figures of validation, then all others."""
    return name != LOSS, not is_validation(name)
