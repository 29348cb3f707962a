"""What a person sees of a run's epochs: a table that stays short, and the best of them whatever it leaves out."""

import numpy as np
import pytest

from fnn.lab.console.progress import Report
from fnn.lab.console.report import ROWS, RunReport
from fnn.lab.fit.clock import Stopwatch


def shown(epochs, losses, by=("valid_loss", 1)):
    """The lines that are told of epochs with these figures: the table's and, from "ended" on, the footer's."""
    lines = []
    report = Report(
        True,
        lambda text: lines.extend(text.splitlines()),
        80,
        lambda: None,
        lambda step, figures: None,
    )
    screen = RunReport(report, epochs, by)
    for epoch, loss in enumerate(losses, 1):
        screen.end_epoch(epoch, {"loss": 1.0, by[0]: loss}, float(epoch))
    screen.conclude("after its last epoch", Stopwatch(), [], "")
    return [line.split() for line in lines]


@pytest.mark.parametrize("epochs", [1, 39, 40, 41, 79, 80, 81, 100, 119, 1000])
def test_a_long_table_is_thinned_evenly_and_keeps_its_first_and_last_epoch(epochs):
    head, *rows = shown(epochs, [1.0] * epochs)[:-3]
    told = [int(row[0]) for row in rows]
    assert head[0] == "epoch" and (told[0], told[-1]) == (1, epochs)
    assert min(epochs, ROWS // 2) <= len(told) <= ROWS + 1
    assert len(set(np.diff(told[1:-1]))) <= 1


# Of 100 epochs every third is shown, besides the first and the last.
@pytest.mark.parametrize(("epoch", "marked"), [(1, [1]), (50, [1]), (51, [1, 51]), (100, [1, 100])])
def test_the_best_epoch_is_told_whether_its_row_is_shown_or_not(epoch, marked):
    losses = [2.0] * 100
    losses[epoch - 1] = 0.5
    *table, _, best, _ = shown(100, losses)
    assert best == ["best", "epoch", f"{epoch}:", "valid_loss", "0.5000"]
    assert [int(row[0]) for row in table if row[-1] == "*"] == marked


def test_more_may_be_better():
    assert shown(3, [0.5, 0.9, 0.7], ("valid_accuracy", -1))[-2] == [
        "best",
        "epoch",
        "2:",
        "valid_accuracy",
        "0.9000",
    ]
