"""The summary of a run: advice, and the lines of the footer."""

import numpy as np
import pytest

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
    lines = list(footer("epoch 3: valid_loss 0.1", reason, stopwatch, "train longer"))
    assert [line.split()[0] for line in lines] == ["ended", "best", "took", "next"]
    lines = list(footer("", "by a signal", stopwatch, None))
    assert [line.split()[0] for line in lines] == ["ended", "took"]
