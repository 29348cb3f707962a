"""The display of a run: a bar in a terminal, lines elsewhere."""

import fcntl
import io
import os
import struct
import sys
import termios
import time

import pytest

from fnn.lab.console.progress import progress_display


class Terminal(io.StringIO):
    def isatty(self):
        return True


def replace_stderr(stream, monkeypatch):
    """Replace standard error. In the test, because after a fixture pytest would set its own."""
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_a_terminal_shows_one_bar_for_the_whole_run(monkeypatch):
    screen = replace_stderr(Terminal(), monkeypatch)
    with progress_display(100, 0, True) as display:
        # Before the first step, or a run that compiles would look as if it hung.
        assert "compiling" in screen.getvalue()
        display.start()
        for step in (40, 100):
            display.update(step, {"loss": 0.25})
        display.print("a line\nand another")
    lines = screen.getvalue().replace("\r", "\n").splitlines()
    assert "a line" in lines
    assert "and another" in lines
    last = screen.getvalue().split("\r")[-1]
    assert "training: 100%" in last
    assert "100/100" in last
    assert "loss 0.25" in last


def test_the_bar_of_a_resumed_run_begins_where_it_stopped(monkeypatch):
    screen = replace_stderr(Terminal(), monkeypatch)
    with progress_display(100, 60, True):
        pass
    assert "60/100" in screen.getvalue()


def test_a_notebook_has_the_bar_in_its_standard_output(monkeypatch):
    """A notebook would show standard error as an error."""
    errors = replace_stderr(io.StringIO(), monkeypatch)
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    with progress_display(10, 0, True) as display:
        display.print("a line")
        display.update(10, {"loss": 0.5})
    assert errors.getvalue() == ""
    assert "a line\n" in output.getvalue()
    assert "10/10" in output.getvalue()


def test_a_run_of_unknown_length_shows_a_count(monkeypatch):
    screen = replace_stderr(Terminal(), monkeypatch)
    with progress_display(None, 0, True) as display:
        display.update(7, {"loss": 0.25})
    assert "7step" in screen.getvalue()


@pytest.mark.parametrize(
    ("total", "start"),
    [(10, "4/10 steps [00:11<00:16, "), (None, "4 steps [00:11, ")],
)
def test_a_file_gets_a_line_every_ten_seconds_and_no_carriage_returns(total, start, monkeypatch):
    file = replace_stderr(io.StringIO(), monkeypatch)
    seconds = iter([0.0, 1.0, *(1 + 2.75 * step for step in range(1, 7))])
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    with progress_display(total, 0, True) as display:
        display.start()
        for step in range(1, 7):
            display.update(step, {"loss": 1 / step})
        display.print("the end")
    assert "\r" not in file.getvalue()
    line, last = file.getvalue().splitlines()
    assert line.startswith(start)
    assert line.endswith(", loss 0.25]")
    assert last == "the end"


def test_show_false_prints_nothing(monkeypatch):
    file = replace_stderr(io.StringIO(), monkeypatch)
    with progress_display(10, 0, False) as display:
        display.print("a line")
        display.update(10, {"loss": 0.0})
    assert file.getvalue() == ""
    assert not display.is_visible


class WriteOnly:
    """A stream such as graphical programs put in the place of standard error."""

    text = ""

    def write(self, text):
        self.text += text


class Closed(WriteOnly):
    def isatty(self):
        raise ValueError("I/O operation on closed file")


@pytest.mark.parametrize("is_closed", [False, True])
def test_without_standard_error_nothing_is_shown(is_closed, monkeypatch):
    closed = io.StringIO()
    closed.close()
    replace_stderr(closed if is_closed else None, monkeypatch)
    with progress_display(10, 0, True) as display:
        display.print("a line")
    assert not display.is_visible


@pytest.mark.parametrize("kind", [WriteOnly, Closed])
def test_a_stream_with_write_alone_gets_lines(kind, monkeypatch):
    stream = replace_stderr(kind(), monkeypatch)
    with progress_display(10, 0, True) as display:
        display.print("a line")
    assert stream.text == "a line\n"


@pytest.mark.parametrize("columns", [40, 200])
def test_the_width_is_that_of_the_terminal_that_is_written_to(columns, monkeypatch):
    pty = pytest.importorskip("pty")
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    # Standard output is not a terminal here.
    monkeypatch.delenv("COLUMNS", raising=False)
    with os.fdopen(terminal, "w") as stream, os.fdopen(main):
        replace_stderr(stream, monkeypatch)
        with progress_display(10, 0, True) as display:
            assert display.columns == columns
