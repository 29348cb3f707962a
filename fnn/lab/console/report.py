"""Terminal report of `fit`: header, checks, table of epochs and summary."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fnn import trees
from fnn.diagnose import Findings
from fnn.lab.console.preflight import format_line, header, preflight
from fnn.lab.console.progress import Display
from fnn.lab.console.summary import advice, footer
from fnn.lab.console.table import Table, format_number
from fnn.lab.fit.clock import Stopwatch
from fnn.lab.fit.history import Figures
from fnn.train.figures import LOSS, is_validation
from fnn.train.recipe import Recipe
from fnn.types import Data, Shape, TrainState

MAX_ROWS = 40  # of the table, besides the first; of more epochs every second, third, ... is shown


class RunReport:
    """Prints a header and checks, a table of epochs with the best one so far marked, and a footer.

    `update` and `end_epoch` only collect. `flush` prints all that they collected at once, because
    each call of a terminal is slow.

    Args:
        display: The output.
        epochs: Number of epochs of the run.
        criterion: Name of the figure that decides which epoch is the best.
        sign: 1 if a lower figure is better, -1 if a higher one is.
    """

    def __init__(self, display: Display, epochs: int, criterion: str, sign: int):
        self.display = display
        self.epochs = epochs
        self.criterion = criterion
        self.sign = sign
        self.row_interval = max(1, math.ceil(epochs / MAX_ROWS))
        self.table: Table | None = None
        self.best_score = math.inf
        self.best_text = ""
        # Collected for the next flush.
        self.pending_rows: list[str] = []
        self.pending_update: tuple[int, Figures] | None = None

    def print_header(
        self, train_state: TrainState, data: Data, valid: Data | None, run: str
    ) -> None:
        """Print facts about the run."""
        if self.display.is_visible:
            self._print(header(train_state, data, valid, run))

    def print_preflight(
        self,
        recipe: Recipe,
        train_state: TrainState,
        data: Data,
        out_shape: Shape,
        first_loss: float | None,
        seconds: float,
        total: int | None = None,
    ) -> None:
        """Print the seconds of compilation and the preflight checks; training starts."""
        if self.display.is_visible:
            # The checks read a part of the data, once.
            with trees.allow_transfers():
                checks = list(preflight(recipe, train_state, data, out_shape, first_loss, total))
            self._print([f"compiled in {seconds:.1f} s", *checks])
        self.display.start()

    def warn(self, text: str) -> None:
        """Print a warning."""
        self._print([format_line("!!", text)])

    def restore(self, figures: Figures) -> None:
        """Find the best epoch among those before a run was resumed."""
        validated = {}
        for name, values in figures.items():
            if is_validation(name) and values.ndim == 1:
                validated[name] = values
        epochs = len(validated.get(self.criterion, ()))
        for index in range(epochs):
            row = {name: float(values[index]) for name, values in validated.items()}
            self._note_best(index + 1, row)

    def update(self, step: int, measured: Figures) -> None:
        """Collect the number of steps done, and the figures of the last ones."""
        self.pending_update = step, measured

    def end_epoch(self, epoch: int, row: Mapping[str, Any], seconds: float) -> None:
        """Collect a line of the table."""
        is_best = self._note_best(epoch, row)
        is_first = self.table is None
        # The columns are known with the first row.
        if self.table is None:
            self.table = Table(list(row), self.display.columns)
            self.pending_rows.append(self.table.head())
        # A resumed run shows its first epoch, whatever its number.
        if is_first or epoch % self.row_interval == 0 or epoch == self.epochs:
            self.pending_rows.append(self.table.row(epoch, row, seconds, is_best))

    def note_findings(self, step: int, findings: Findings) -> None:
        """Collect a line for each of the findings after a step."""
        for finding in findings:
            self.pending_rows.append(format_line("!!", f"by step {step:,}: {finding}"))

    def flush(self) -> None:
        """Print all that was collected."""
        # Cleared first: if the terminal fails, the same lines are not printed a second time.
        rows = self.pending_rows
        update = self.pending_update
        self.pending_rows = []
        self.pending_update = None
        if rows:
            self._print(rows)
        if update:
            step, measured = update
            # The loss of one step is noisy: show the mean over the last steps, (steps,).
            self.display.update(step, {LOSS: measured[LOSS].mean()})

    def print_footer(
        self,
        stop_reason: str,
        stopwatch: Stopwatch,
        losses: Sequence[float],
        next_step: str,
        findings: Findings,
    ) -> None:
        """Print the last lines of a run.

        Args:
            stop_reason: Why and where the run ended.
            stopwatch: The time spent by purpose.
            losses: The validation loss of each epoch.
            next_step: How to resume the run; if "", advice by the losses is printed instead.
            findings: Of the recorded figures.
        """
        self.flush()
        advised = next_step or advice(losses)
        self._print(footer(self.best_text, stop_reason, stopwatch, advised, findings))

    def _note_best(self, epoch: int, row: Mapping[str, Any]) -> bool:
        """Return whether this epoch is the best so far."""
        # NaN is never less, so that epochs without the figure are not the best.
        score = self.sign * row.get(self.criterion, math.nan)
        is_best = score < self.best_score
        if is_best:
            self.best_score = score
            parts = []
            for name, value in row.items():
                if is_validation(name):
                    parts.append(f"{name} {format_number(value)}")
            self.best_text = f"epoch {epoch}: {', '.join(parts)}"
        return is_best

    def _print(self, lines: Iterable[str]) -> None:
        # In one call, because the bar is redrawn after each.
        self.display.print("\n".join(lines))


def describe_run(epochs: int, batch_size: int, epoch_length: int | None) -> str:
    """Describe a run for the header.

    Args:
        epochs: Passes over the data.
        batch_size: Examples per step.
        epoch_length: Steps per epoch, or None where it is not known.
    """
    if epoch_length is None:
        return f"{epochs} epochs of steps on {batch_size} examples each"
    total = epochs * epoch_length
    steps = f"{epoch_length} steps on {batch_size} examples each"
    return f"{epochs} epochs of {steps}: {total:,} steps"
