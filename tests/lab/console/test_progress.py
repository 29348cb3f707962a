"""What a person sees of a run: a bar in a terminal, lines elsewhere."""

import io
import sys
import time

import pytest

from fnn.lab.console.progress import reporting


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
        assert (
            "compiling" in screen.getvalue()
        )  # before the first step, or a run that compiles looks hung
        report.begin()
        for step in (40, 100):
            report.update(step, {"loss": 0.25})
        report.say("a line\nand another")
    lines = screen.getvalue().replace("\r", "\n").splitlines()
    assert "a line" in lines and "and another" in lines
    last = screen.getvalue().split("\r")[-1]
    assert "training: 100%" in last and "100/100" in last and "loss 0.25" in last


def test_a_resumed_run_begins_where_it_stopped(monkeypatch):
    screen = looking_at(Terminal(), monkeypatch)
    with reporting(100, 60, True):
        pass
    assert "60/100" in screen.getvalue()


def test_a_notebook_has_the_bar_in_its_output(monkeypatch):
    """Which it would show as an error, were it written to standard error."""
    errors, output = looking_at(io.StringIO(), monkeypatch), io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    with reporting(10, 0, True) as report:
        report.say("a line")
        report.update(10, {"loss": 0.5})
    assert (
        errors.getvalue() == "" and "a line\n" in output.getvalue() and "10/10" in output.getvalue()
    )


def test_a_run_of_unknown_length_counts(monkeypatch):
    screen = looking_at(Terminal(), monkeypatch)
    with reporting(None, 0, True) as report:
        report.update(7, {"loss": 0.25})
    assert "7step" in screen.getvalue()


@pytest.mark.parametrize(
    ("total", "form"), [(10, "4/10 steps [00:11<00:16, "), (None, "4 steps [00:11, ")]
)
def test_a_file_gets_a_line_every_ten_seconds_and_no_carriage_returns(total, form, monkeypatch):
    file = looking_at(io.StringIO(), monkeypatch)
    seconds = iter([0.0, 1.0, *(1 + 2.75 * step for step in range(1, 7))])
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    with reporting(total, 0, True) as report:
        report.begin()
        for step in range(1, 7):
            report.update(step, {"loss": 1 / step})
        report.say("the end")
    assert "\r" not in file.getvalue()
    line, last = file.getvalue().splitlines()
    assert line.startswith(form) and line.endswith(", loss 0.25]") and last == "the end"


def test_nothing_is_shown_where_nothing_is_to_be(monkeypatch):
    file = looking_at(io.StringIO(), monkeypatch)
    with reporting(10, 0, False) as report:
        report.say("a line")
        report.update(10, {"loss": 0.0})
    assert file.getvalue() == "" and not report.shows
