"""Logs into files that people and their tools read: JSON lines, and comma-separated values."""

import os

from fnn.lab.logs.formats import CSV, JSONL
from fnn.lab.logs.lines import file_log
from fnn.lab.logs.log import Log


def jsonl_log(path: str | os.PathLike[str]) -> Log:
    """A log into a file of JSON lines: `{"step": 12, "loss": 0.5}`, a line each step that is told.

    What is not finite is "NaN", "Infinity" or "-Infinity", valid JSON that pandas.read_json(path, lines=True) reads as
    numbers. Lines are written at once and whole. When a run resumes, the lines after that step go, and a last line that
    was cut, so that the log is that of the run that never stopped. ConfigError where a run begins and the file holds a
    log already, for a folder that is not there, or a file that is no such log.
    """
    return file_log("jsonl_log", path, JSONL)


def csv_log(path: str | os.PathLike[str]) -> Log:
    """A log into a table of comma-separated values, a column a figure, empty where it was not told.

    What is not finite is nan, inf or -inf, as pandas.read_csv reads it. Else as `jsonl_log`; ConfigError also for a
    figure that was not named as the run began, and where a run resumes with other figures.
    """
    return file_log("csv_log", path, CSV)
