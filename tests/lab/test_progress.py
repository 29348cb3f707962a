"""What a person sees of a run: a bar in a terminal, lines elsewhere."""

import io
import sys

from fnn.lab.progress import reporting


class Terminal(io.StringIO):
    def isatty(self):
        return True


def looking_at(stream, monkeypatch):
    """The stream in the place of standard error, set in the test itself: after a fixture pytest would set its own."""
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_a_terminal_shows_one_bar_for_the_whole_run(monkeypatch):
    screen = looking_at(Terminal(), monkeypatch)
    with reporting(100, 0, True) as report:
        assert "compiling" in screen.getvalue()  # before the first step, or a run that compiles looks hung
        report.compiled(3.21)
        for step in (40, 100):
            report.update(step, {"loss": 0.25, "valid_accuracy": 0.9876})
    assert "compiled in 3.2 s" in screen.getvalue()
    last = screen.getvalue().split("\r")[-1]
    assert "100%" in last and "100/100" in last and "loss 0.25  valid_accuracy 0.9876" in last


def test_a_resumed_run_begins_where_it_stopped(monkeypatch):
    screen = looking_at(Terminal(), monkeypatch)
    with reporting(100, 60, True):
        pass
    assert "60/100" in screen.getvalue()


def test_a_file_gets_lines_and_no_carriage_returns(monkeypatch):
    file = looking_at(io.StringIO(), monkeypatch)
    with reporting(10, 0, True) as report:
        report.compiled(0.5)
        for step in range(1, 11):
            report.update(step, {"loss": 1 / step})
    assert "\r" not in file.getvalue()
    first, last = file.getvalue().splitlines()
    assert first == "compiled in 0.5 s"
    assert last.startswith("10/10 steps [00:00<00:00, ") and last.endswith(", loss 0.1]")
