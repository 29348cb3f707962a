"""What is told at the end: where the time went, and what to do next."""

import time

import numpy as np
import pytest

from fnn.lab.console.summary import advice, footer
from fnn.lab.fit.clock import Stopwatch

falling = np.linspace(2, 1, 12)


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        (falling, "still falling at the end"),
        ([*falling, *np.linspace(1, 1.5, 8)], "risen from 1.0000 in epoch 12 to 1.5000"),
        ([*falling, *[1.0] * 12], None),
        (falling[:3], None),
        ([*falling, np.nan], None),
    ],
)
def test_what_the_losses_advise(losses, told):
    found = advice(losses)
    assert found is None if told is None else told in found


def test_the_time_is_told_by_purpose_the_largest_first(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 4.0, 9.0, 10.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    watch = Stopwatch()
    with watch.on("compiling"):
        pass
    with watch.on("steps"):
        pass
    watch.move("steps", "data", 1.0)
    assert watch.told() == "10.0 s: steps 4.0, rest 3.0, compiling 2.0, data 1.0"


def test_the_lines():
    watch = Stopwatch()
    lines = list(
        footer("epoch 3: valid_loss 0.1", "after its last epoch, at step 9", watch, "go on")
    )
    assert [line.split()[0] for line in lines] == ["ended", "best", "took", "next"]
    assert [line.split()[0] for line in footer("", "by a signal", watch, None)] == ["ended", "took"]
