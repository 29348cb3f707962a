"""Logs into text files: JSON lines and comma-separated values."""

import os

from fnn.lab.logs.formats import CSV, JSONL
from fnn.lab.logs.lines import file_log
from fnn.lab.logs.log import Log


def jsonl_log(path: str | os.PathLike[str]) -> Log:
    """Log into a file of JSON lines: `{"step": 12, "loss": 0.5}`, one line per logged step.

    Non-finite numbers are written as "NaN", "Infinity" and "-Infinity". This is valid JSON, which
    `pandas.read_json(path, lines=True)` reads as numbers. Lines are written whole and at once.

    When a run resumes, the lines of later steps and a truncated last line are removed: the file
    is then byte for byte that of an uninterrupted run.

    Args:
        path: The file. Its folder must exist; the file itself must not exist when a run begins.

    Raises:
        ConfigError: `path` is a folder, or its folder does not exist. Also raised when a run
            begins: the file already holds a log, or is not a log of this format.
    """
    return file_log("jsonl_log", path, JSONL)


def csv_log(path: str | os.PathLike[str]) -> Log:
    """Log into a file of comma-separated values: one column per figure, one row per logged step.

    The cell of a figure that a step does not have is empty. Non-finite numbers are written as
    nan, inf and -inf, which `pandas.read_csv` reads. Resuming works as for `jsonl_log`.

    Args:
        path: The file. Its folder must exist; the file itself must not exist when a run begins.

    Raises:
        ConfigError: As for `jsonl_log`; also for a figure that was not named when the run began,
            and when a run resumes with other figures.
    """
    return file_log("csv_log", path, CSV)
