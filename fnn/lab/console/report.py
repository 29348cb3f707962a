"""What a person sees of a run, from its first line to its last."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fnn.lab.console.preflight import header, preflight, told
from fnn.lab.console.progress import Report
from fnn.lab.console.summary import advice, footer
from fnn.lab.console.table import Table, number
from fnn.lab.fit.clock import Stopwatch
from fnn.lab.fit.history import Figures
from fnn.train.figures import LOSS, is_validation
from fnn.train.recipe import Recipe
from fnn.types import Data, Shape, TrainState

ROWS = 40  # of the table at most, besides the first; of more epochs, every so many


class RunReport:
    """A header and ticks, then a table of epochs with the best so far marked and a bar below it, then a footer.

    What `update` and `end_epoch` note is shown by `tell`, for a terminal is slow.
    """

    def __init__(self, report: Report, epochs: int, goes_by: tuple[str, int]):
        self.report, self.epochs = report, epochs
        self.by, self.sign = goes_by
        self.every = max(1, math.ceil(epochs / ROWS))
        self.table: Table | None = None
        self.best, self.best_told = math.inf, ""
        self.rows: list[str] = []  # not yet shown
        self.place: tuple[int, Figures] | None = None

    def introduce(self, train_state: TrainState, data: Data, valid: Data | None, run: str) -> None:
        """What is trained, before anything compiles."""
        if self.report.shows:
            self._say(header(train_state, data, valid, run))

    def check(
        self,
        recipe: Recipe,
        data: Data,
        out_shape: Shape,
        first_loss: float | None,
        seconds: float,
        total: int | None = None,
    ) -> None:
        """Whether it begins as it should."""
        if self.report.shows:
            self._say(
                [
                    f"compiled in {seconds:.1f} s",
                    *preflight(recipe, data, out_shape, first_loss, total),
                ]
            )
        self.report.begin()

    def warn(self, what: str) -> None:
        """Something that a person should know."""
        self._say([told("!!", what)])

    def recall(self, figures: Figures) -> None:
        """The epochs that were before the run was gone on with."""
        validated = {
            name: values
            for name, values in figures.items()
            if is_validation(name) and values.ndim == 1
        }
        for place in range(len(validated.get(self.by, ()))):
            self._judge(
                place + 1, {name: float(values[place]) for name, values in validated.items()}
            )

    def update(self, step: int, measured: Figures) -> None:
        """Where the run stands, after these steps."""
        self.place = step, measured

    def end_epoch(self, epoch: int, row: Mapping[str, Any], seconds: float) -> None:
        """A line of the table."""
        is_best = self._judge(epoch, row)
        is_first = self.table is None
        if self.table is None:
            self.table = Table(list(row), self.report.columns)
            self.rows.append(self.table.head())
        if is_first or epoch % self.every == 0 or epoch == self.epochs:
            self.rows.append(self.table.row(epoch, row, seconds, is_best))

    def tell(self) -> None:
        """Show what was noted since."""
        rows, place = self.rows, self.place
        self.rows, self.place = (
            [],
            None,
        )  # first, so that what a terminal does not take is not tried again
        if rows:
            self._say(rows)
        if place:
            step, measured = place
            self.report.update(step, {LOSS: measured[LOSS].mean()})

    def _judge(self, epoch: int, row: Mapping[str, Any]) -> bool:
        """Whether this epoch is the best so far."""
        is_best = self.sign * row.get(self.by, math.nan) < self.best
        if is_best:
            self.best = self.sign * row[self.by]
            figures = (
                f"{name} {number(value)}" for name, value in row.items() if is_validation(name)
            )
            self.best_told = f"epoch {epoch}: {', '.join(figures)}"
        return is_best

    def conclude(self, ended: str, watch: Stopwatch, losses: Sequence[float], go_on: str) -> None:
        """How it went, and what to do next: go on, where that can be done, or what the losses advise."""
        self.tell()
        self._say(footer(self.best_told, ended, watch, go_on or advice(losses)))

    def _say(self, lines: Iterable[str]) -> None:
        self.report.say("\n".join(lines))  # at once, for the bar is drawn anew after each
