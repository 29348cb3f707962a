"""The report of a run: a table of limited length, and the best epoch also if it has no row."""

import numpy as np
import pytest

from fnn.diagnose import Findings
from fnn.lab.console.progress import Display
from fnn.lab.console.report import MAX_ROWS, RunReport
from fnn.lab.fit.clock import Stopwatch


def report_lines(losses, criterion="valid_loss", sign=1):
    """The words of each line of a run with these figures: of the table, then of the footer."""
    lines = []
    display = Display(
        is_visible=True,
        print=lambda text: lines.extend(text.splitlines()),
        columns=80,
        start=lambda: None,
        update=lambda step, figures: None,
    )
    report = RunReport(display, len(losses), criterion, sign)
    for epoch, loss in enumerate(losses, 1):
        report.end_epoch(epoch, {"loss": 1.0, criterion: loss}, float(epoch))
    report.print_footer("after its last epoch", Stopwatch(), [], "", Findings())
    return [line.split() for line in lines]


@pytest.mark.parametrize("epochs", [1, 39, 40, 41, 79, 80, 81, 100, 119, 1000])
def test_a_long_table_is_thinned_evenly_and_keeps_its_first_and_last_epoch(epochs):
    head, *rows = report_lines([1.0] * epochs)[:-3]
    shown = [int(row[0]) for row in rows]
    assert head[0] == "epoch"
    assert shown[0] == 1
    assert shown[-1] == epochs
    assert min(epochs, MAX_ROWS // 2) <= len(shown) <= MAX_ROWS + 1
    assert len(set(np.diff(shown[1:-1]))) <= 1


# Of 100 epochs every third is shown, and the first and the last.
@pytest.mark.parametrize(("epoch", "marked"), [(1, [1]), (50, [1]), (51, [1, 51]), (100, [1, 100])])
def test_the_footer_names_the_best_epoch_also_if_it_has_no_row(epoch, marked):
    losses = [2.0] * 100
    losses[epoch - 1] = 0.5
    *table, _, best, _ = report_lines(losses)
    assert best == ["best", "epoch", f"{epoch}:", "valid_loss", "0.5000"]
    assert [int(row[0]) for row in table if row[-1] == "*"] == marked


def test_with_a_negative_sign_the_highest_is_the_best():
    best = report_lines([0.5, 0.9, 0.7], "valid_accuracy", -1)[-2]
    assert best == ["best", "epoch", "2:", "valid_accuracy", "0.9000"]
