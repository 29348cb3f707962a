"""The content of a report as values, and its text within the page."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fnn import checks
from fnn.data.sets.dataset import file_path
from fnn.diagnose import Finding, Findings
from fnn.errors import ConfigError
from fnn.lab.report.markup import Markup
from fnn.train.figures import FLAGS, LOSS, is_validation

FORMAT = 1  # version of the text
MAX_ROWS = 500  # recorded steps of a figure
MAX_NUMBERS = 4_000  # of a figure with a value for each layer
MAX_BYTES = 2_000_000  # of a report
START = f'<template id="fnn-report" data-format="{FORMAT}">'
END = "</template>"
NOT_FINITE = ("nan", "inf", "-inf")  # text of numbers that JSON lacks
WAY_OUT = "give a file that lab.report wrote"


@dataclass(frozen=True, eq=False)
class Series:
    """A figure of a run at some of its steps.

    Attributes:
        steps: Numbers of the steps, from 1 on, (n,); of validation, the numbers of the epochs.
        values: The figure at each, (n,) or (n, columns).
    """

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Report:
    """The content of a report, as `lab.read_report` returns it.

    Attributes:
        findings: Of the examination; None if there was none.
        figures: Final figures by set of examples and name, such as figures["valid"]["loss"].
        history: Figures by name. Of long runs, evenly spaced steps.
        columns: Names of the columns of a figure with several, by its name.
        steps: Number of steps of the run, or of trials of a search.
        recipe: The code of the recipe; "" if it was not given.
        key: The code of the random key; "" for a search.
        versions: Version of each package, and the device.
    """

    findings: Findings | None
    figures: Mapping[str, Mapping[str, float]]
    history: Mapping[str, Series]
    columns: Mapping[str, tuple[str, ...]]
    steps: int
    recipe: str
    key: str
    versions: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes by name, as values of JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.findings is not None:
            values["findings"] = [finding.as_dict() for finding in self.findings]
        values["history"] = {
            name: {
                "dtype": str(series.values.dtype),
                "steps": series.steps.tolist(),
                "values": series.values,
            }
            for name, series in self.history.items()
        }
        plain: dict[str, Any] = _plain(values)
        return plain


def sample_history(
    history: Mapping[str, Any],
    numbers: int = MAX_NUMBERS,
) -> dict[str, Series]:
    """Return the figures of a run, each at few enough steps to be written to a report.

    Rows without any value, of steps at which a figure was not measured, are left out.

    Args:
        history: Of one run.
        numbers: Maximum number of entries of a figure with several columns.
    """
    sampled = {}
    for name in history:
        values = np.asarray(history[name])
        if name in FLAGS or not values.size:
            continue
        # An entry for each layer and bin is not drawn.
        if values.ndim > 2:
            continue
        steps = np.arange(1, len(values) + 1)
        if values.ndim == 2:
            is_measured = ~np.isnan(values).all(1)
            steps, values = steps[is_measured], values[is_measured]
        rows = min(MAX_ROWS, max(1, numbers // max(1, values[:1].size)))
        if len(steps) > rows:
            # The first and the last one are kept.
            chosen = evenly_spaced(len(steps), rows)
            steps, values = steps[chosen], values[chosen]
        sampled[name] = Series(steps, values)
    return sampled


def evenly_spaced(count: int, limit: int) -> np.ndarray:
    """Return at most `limit` evenly spaced indices of `count`, with the first and the last one."""
    positions = np.linspace(0, count - 1, min(count, limit))
    return np.unique(positions.astype(int))


def count_steps(history: Mapping[str, Any]) -> int:
    """Return the number of steps of a run."""
    return len(history[LOSS])


def final_figures(history: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the mean figures of the last steps, and the last ones of validation.

    The last steps are those of the last epoch; without validation, whose figures show the number of
    epochs, they are the last tenth.
    """
    steps = count_steps(history)
    epochs = max((len(history[name]) for name in history if is_validation(name)), default=10)
    last = max(1, round(steps / max(1, epochs)))
    found: dict[str, dict[str, float]] = {"training": {}, "valid": {}}
    for name in history:
        values = np.asarray(history[name], float)
        if name in FLAGS or values.ndim != 1 or not values.size:
            continue
        if is_validation(name):
            found["valid"][name.removeprefix("valid_")] = float(values[-1])
        else:
            found["training"][name] = float(values[-last:].mean())
    return {name: figures for name, figures in found.items() if figures}


def embed(report: Report) -> Markup:
    """Return the content as an element of the page, which is not shown and not executed."""
    text = json.dumps(report.as_dict(), allow_nan=False, separators=(",", ":"))
    # No character of JSON's text has a meaning in HTML then.
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(f"{START}{text}{END}")


def read_report(path: str | os.PathLike[str]) -> Report:
    """Read the content of a report that `lab.report` wrote.

    Args:
        path: The file.

    Returns:
        The findings, the figures, the history, the recipe and the versions.

    Raises:
        ConfigError: The file does not exist, or is not a report of fnn.
    """
    source = file_path("read_report path", path)
    if not source.is_file():
        raise ConfigError(
            "read_report path",
            "a file that exists",
            source,
            "check the folder",
        )
    size = source.stat().st_size
    if size > 2 * MAX_BYTES:
        expected = f"a report of at most {2 * MAX_BYTES} bytes"
        raise ConfigError(
            "read_report path",
            expected,
            f"{size} bytes in {source}",
            WAY_OUT,
        )
    content = source.read_text(encoding="utf-8", errors="replace")
    _, start, rest = content.partition(START)
    text, end, _ = rest.partition(END)
    if not (start and end):
        got = f"{content[:40]!r} in {source}"
        raise ConfigError(
            "read_report path",
            "a report of fnn",
            got,
            WAY_OUT,
        )
    try:
        return _parse(json.loads(text))
    # The text may be any JSON, and nested deeply.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        got = f"{checks.show(str(error))} in {source}"
        raise ConfigError(
            "read_report path",
            "a whole report of fnn",
            got,
            WAY_OUT,
        ) from None


def _parse(values: dict[str, Any]) -> Report:
    findings = None
    if values["findings"] is not None:
        findings = Findings(_parse_finding(dict(one)) for one in values["findings"])
    history = {}
    for name, series in values["history"].items():
        numbers = np.asarray(series["values"], float).astype(np.dtype(series["dtype"]))
        history[name] = Series(np.asarray(series["steps"], int), numbers)
    figures = {
        name: {figure: float(value) for figure, value in part.items()}
        for name, part in values["figures"].items()
    }
    return Report(
        findings=findings,
        figures=figures,
        history=history,
        columns={name: tuple(columns) for name, columns in values["columns"].items()},
        steps=int(values["steps"]),
        recipe=str(values["recipe"]),
        key=str(values["key"]),
        versions=dict(values["versions"]),
    )


def _parse_finding(values: dict[str, Any]) -> Finding:
    for name in ("causes", "advice", "steps"):
        values[name] = None if values[name] is None else tuple(values[name])
    measured = dict(values["measured"])
    for name, value in measured.items():
        if value in NOT_FINITE:
            measured[name] = float(value)
    values["measured"] = measured
    return Finding(**values)


def _plain(value: Any) -> Any:
    """Return a value as one of JSON: arrays become lists, others that JSON lacks their text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        # JSON has no text for these; float() reads them.
        return value if math.isfinite(value) else str(value)
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        # bfloat16 and other dtypes of numbers.
        try:
            array = array.astype(np.float32)
        except (TypeError, ValueError):
            return str(value)
    if array.ndim:
        return [_plain(part) for part in array]
    if array.dtype.kind != "f":
        return array.item()
    # The shortest decimal that reads back in the array's dtype.
    return _plain(float(str(array)))
