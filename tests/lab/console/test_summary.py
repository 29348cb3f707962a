"""The summary of a run: advice, and the lines of the footer."""

import numpy as np
import pytest

from fnn.diagnose import Finding, Findings
from fnn.lab.console.summary import advice, footer
from fnn.lab.fit.clock import Stopwatch

falling = np.linspace(2, 1, 12)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        (falling, "still falling at the end"),
        ([*falling, *np.linspace(1, 1.5, 8)], "risen from 1.0000 in epoch 12 to 1.5000"),
        ([*falling, *[1.0] * 12], None),
        (falling[:3], None),
        ([*falling, np.nan], None),
    ],
)
def test_advice_follows_from_the_validation_losses(losses, expected):
    found = advice(losses)
    if expected is None:
        assert found is None
    else:
        assert expected in found


def test_the_footer_leaves_out_missing_lines():
    stopwatch = Stopwatch()
    reason = "after its last epoch, at step 9"
    lines = list(footer("epoch 3: valid_loss 0.1", reason, stopwatch, "train longer", Findings()))
    assert [line.split()[0] for line in lines] == ["ended", "best", "took", "next"]
    lines = list(footer("", "by a signal", stopwatch, None, Findings()))
    assert [line.split()[0] for line in lines] == ["ended", "took"]


def test_the_footer_shows_errors_and_warnings_and_no_information():
    severities = ("info", "warning", "error", "warning", "warning")
    findings = Findings(Finding("T13", "no_progress", one, one) for one in severities)
    lines = list(footer("", "by a signal", Stopwatch(), None, findings))
    assert [line.split()[:2] for line in lines[2:]] == [["!!", "error"]] + [["!!", "warning"]] * 2
