"""Reports of runs and searches: verdict, findings, figures, data and code in one HTML file."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnn import checks, diagnose, train
from fnn.data.sets.dataset import file_path
from fnn.diagnose import Findings
from fnn.errors import ConfigError
from fnn.lab.disk import replace_file, write_errors
from fnn.lab.plots.curves import Curves, read_curves
from fnn.lab.report.cards import finding_cards, verdict
from fnn.lab.report.comparison import comparison_section
from fnn.lab.report.content import (
    MAX_BYTES,
    Report,
    count_steps,
    embed,
    final_figures,
    read_report,
    sample_history,
)
from fnn.lab.report.data_section import data_section, input_section
from fnn.lab.report.layer_section import (
    ACTIVATIONS,
    INSTRUMENTS,
    layer_section,
    measured_ends,
    recorded_ends,
)
from fnn.lab.report.markup import Markup, notice
from fnn.lab.report.page import page
from fnn.lab.report.prediction_section import prediction_section
from fnn.lab.report.reproduction import (
    describe_key,
    describe_recipe,
    describe_versions,
    reproduction_section,
)
from fnn.lab.report.run_section import run_section
from fnn.lab.report.search_section import search_section
from fnn.lab.report.svg import report_style
from fnn.search.trials import Trials
from fnn.train.arrays import validate_data
from fnn.train.figures import LOSS, VALID_LOSS
from fnn.train.inputs import example_shapes
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import start_on_data
from fnn.types import Data, Result, TrainState

FilePath = str | os.PathLike[str]
OWN = ("findings", "reproduction")  # sections that are never left out
SUFFIXES = (".html", ".htm")


def report(
    result: Result | Trials,
    path: FilePath,
    *,
    recipe: Recipe | None = None,
    data: Data | None = None,
    valid: Data | None = None,
    findings: Findings | None = None,
    names: Sequence[str] | None = None,
    compare: Result | Report | FilePath | None = None,
) -> Report:
    """Write a report of a run or a search: one HTML file that needs no network and no script.

    It begins with the verdict and the next steps, and has a card for each finding: the measured
    value, the threshold and its source, advice, and a confirming experiment. Then follow the
    learning curves and events, the layers (of a run with instruments), predictions, the inputs of
    the network, the data, a comparison, and the code that reproduces the run. Sections whose
    arguments are not given are left out. The same arguments give the same bytes, of at most 2 MB:
    of larger reports, the largest sections are left out. Needs matplotlib: pip install '.[plot]'.

    Args:
        result: The result of one run, or the trials of a search.
        path: The file to write, such as "report.html".
        recipe: The recipe of the run; by default that of the best trial of a search.
        data: (inputs, targets) of training.
        valid: (inputs, targets) of validation.
        findings: Of an examination. By default `diagnose.examine` is called, if recipe and data
            are given and the run had validation, from which its batch size follows.
        names: Name of each class; its number if None.
        compare: Another run, to draw both side by side: its result, its report, or the file of it.

    Returns:
        The content, as `lab.read_report(path)` returns it.

    Raises:
        ConfigError: An argument is not of the type described here, the suffix of `path` is not
            .html, its folder does not exist, or matplotlib is not installed.
        FnnError: The data does not fit the recipe, as for `train.evaluate`.
        WriteError: The disk refused the file; a file of that name is as before.
    """
    target = _expect_path(path)
    other = _expect_other(compare)
    _expect_arguments(result, recipe, findings, names)
    data = None if data is None else validate_data("data", data)
    valid = None if valid is None else validate_data("valid", valid)
    if findings is None and isinstance(result, Result):
        findings = _examine(result, recipe, data, valid)
    with report_style():
        content, text = _render(result, recipe, data, valid, findings, names, other)
    with write_errors(f"report {target.name}", target.parent):
        replace_file(target, [text.encode()])
    return content


def _examine(
    result: Result,
    recipe: Recipe | None,
    data: Data | None,
    valid: Data | None,
) -> Findings | None:
    """Examine a run whose batch size follows from its epochs; None for others."""
    if recipe is None or recipe.optimizer is None or data is None:
        return None
    epochs = len(result.history.get(VALID_LOSS, ()))
    if not epochs or len(result.history[LOSS]) % epochs:
        return None
    return diagnose.examine(recipe, result, data, valid=valid)


def _render(
    result: Result | Trials,
    recipe: Recipe | None,
    data: Data | None,
    valid: Data | None,
    findings: Findings | None,
    names: Sequence[str] | None,
    other: tuple[str, Report] | None,
) -> tuple[Report, str]:
    """Return the content and the text of the page."""
    if isinstance(result, Trials):
        recipe = result.best.recipe if recipe is None else recipe
        content = _describe_search(result, recipe, findings)
        sections = _search_sections(result, content, data, valid, names)
        title = f"Search of {len(result)} trials"
        subtitle = f"Compared by {result.figure.name}."
    else:
        content = _describe_run(result, recipe, data, valid, findings)
        sections = _run_sections(result, content, recipe, data, valid, names)
        title = "Report of a run"
        leaves = jax.tree.leaves(result.train_state.params)
        count = sum(leaf.size for leaf in leaves)
        subtitle = f"{content.steps:,} steps, {count:,} parameters."
    if other is not None:
        sections.append(comparison_section(content, other[1], other[0]))
    sections.append(reproduction_section(content))
    return content, _fit(content, sections, title, subtitle)


def _fit(
    content: Report,
    sections: list[Markup],
    title: str,
    subtitle: str,
) -> str:
    """Return the page without the largest sections that it has no room for."""
    kept = list(sections)
    data = embed(content)
    note = Markup()
    while True:
        head = [verdict(content.findings), note]
        text = page(title, subtitle, head, kept, data)
        optional = [one for one in kept if not _is_own(one)]
        if len(text.encode()) <= MAX_BYTES or not optional:
            return text
        kept.remove(max(optional, key=len))
        omitted = len(sections) - len(kept)
        note = notice(f"{omitted} sections are left out, since a report holds at most 2 MB.")


def _is_own(one: Markup) -> bool:
    return one.startswith(tuple(f'<section id="{name}">' for name in OWN))


def _describe_run(
    result: Result,
    recipe: Recipe | None,
    data: Data | None,
    valid: Data | None,
    findings: Findings | None,
) -> Report:
    history = sample_history(result.history)
    figures = final_figures(result.history)
    if recipe is not None:
        figures |= _evaluate(recipe, result.train_state, data, valid)
    return Report(
        findings=findings,
        figures=figures,
        history=history,
        columns=_columns(result, history, recipe, data),
        steps=count_steps(result.history),
        recipe=describe_recipe(recipe),
        key=describe_key(result.train_state.key),
        versions=describe_versions(),
    )


def _evaluate(
    recipe: Recipe,
    train_state: TrainState,
    data: Data | None,
    valid: Data | None,
) -> dict[str, dict[str, float]]:
    """Return the figures in evaluation mode, also those before training."""
    cases: dict[str, tuple[TrainState, Data | None]] = {
        "training, evaluation mode": (train_state, data),
        "valid, evaluation mode": (train_state, valid),
    }
    if recipe.optimizer is not None and data is not None:
        first = start_on_data(recipe, train_state.key, data)
        cases = {"before training": (first, data)} | cases
    figures = {}
    for name, (state, examples) in cases.items():
        if examples is not None:
            found = train.evaluate(recipe, state, examples)
            figures[name] = {one: float(value) for one, value in found.items() if not value.ndim}
    return figures


def _describe_search(trials: Trials, recipe: Recipe, findings: Findings | None) -> Report:
    best = {trials.figure.name: trials.best.score}
    return Report(
        findings=findings,
        figures={"best trial": best},
        history={},
        columns={},
        steps=len(trials),
        recipe=describe_recipe(recipe),
        key="",
        versions=describe_versions(),
    )


def _columns(
    result: Result,
    history: Any,
    recipe: Recipe | None,
    data: Data | None,
) -> dict[str, tuple[str, ...]]:
    """Return the names of the layers or parameters of each figure of instruments."""
    if recipe is not None and recipe.instruments is not None and data is not None:
        shapes = example_shapes(recipe, data[0])
        names = recipe.instruments.columns(recipe.network, result.train_state.params, shapes)
        return {name: names[name] for name in names if name in history}
    columns = {}
    for name in INSTRUMENTS:
        if name not in history:
            continue
        count = history[name].values.shape[-1]
        kind = "layer" if name in ACTIVATIONS else "parameter"
        columns[name] = tuple(f"{kind} {index}" for index in range(count))
    return columns


def _run_sections(
    result: Result,
    content: Report,
    recipe: Recipe | None,
    data: Data | None,
    valid: Data | None,
    names: Sequence[str] | None,
) -> list[Markup]:
    curves: Curves = read_curves("report", result)
    sections: list[Markup | None] = []
    if content.findings:
        cards = finding_cards(content.findings, curves, content.history, content.columns)
        sections.append(cards)
    sections.append(run_section(curves, content.figures))
    ends = recorded_ends(content.history, content.columns)
    if recipe is not None and recipe.optimizer is not None and data is not None:
        ends = measured_ends(recipe, result.train_state, data)
    sections.append(layer_section(content.history, content.columns, ends))
    examples = valid if valid is not None else data
    if recipe is not None and examples is not None:
        part = "training" if valid is None else "validation"
        train_state = result.train_state
        sections.append(prediction_section(recipe, train_state, examples, part, names))
    if recipe is not None and data is not None:
        sections.append(input_section(result.train_state.key, recipe, data, names))
    if data is not None:
        sections.append(data_section(data, valid, names))
    return [one for one in sections if one is not None]


def _search_sections(
    trials: Trials,
    content: Report,
    data: Data | None,
    valid: Data | None,
    names: Sequence[str] | None,
) -> list[Markup]:
    sections = []
    if content.findings:
        sections.append(finding_cards(content.findings, None, {}, {}))
    sections.append(search_section(trials))
    if data is not None:
        sections.append(data_section(data, valid, names))
    return sections


def _expect_path(path: FilePath) -> Path:
    target = file_path("report path", path)
    if target.suffix not in SUFFIXES:
        raise ConfigError("report path", "the suffix .html", target.name, "try report.html")
    if not target.parent.is_dir():
        raise ConfigError("report path", "a folder that exists", target.parent, "make it first")
    return target


def _expect_other(compare: Any) -> tuple[str, Report] | None:
    """Return the name and the content of the run to compare with, or None."""
    if compare is None:
        return None
    if isinstance(compare, Report):
        return "other run", compare
    if isinstance(compare, Result):
        _expect_run("report compare", compare)
        return "other run", _describe_run(compare, None, None, None, None)
    if isinstance(compare, str | os.PathLike):
        return Path(compare).stem, read_report(compare)
    expected = "a Result, a Report or the file of a report"
    raise ConfigError("report compare", expected, checks.show(compare), "give that of another run")


def _expect_run(where: str, result: Result) -> None:
    """Raise an error unless the result is that of one run of a step or more."""
    read_curves(where, result)
    shape = np.shape(result.history[LOSS])
    if len(shape) != 1:
        advice = "take one lane: jax.tree.map(lambda array: array[0], result)"
        raise ConfigError(where, "the result of one run", f"losses {shape}", advice)


def _expect_arguments(result: Any, recipe: Any, findings: Any, names: Any) -> None:
    if not isinstance(result, Result | Trials):
        expected = "the result of a run, or the trials of a search"
        advice = "give that of train.run, lab.fit or search.random"
        raise ConfigError("report result", expected, checks.show(result), advice)
    if isinstance(result, Result):
        _expect_run("report result", result)
    if recipe is not None:
        expect_recipe("report", recipe, trains=False)
    if findings is not None and not isinstance(findings, Findings):
        advice = "give those of diagnose.examine"
        raise ConfigError("report findings", "Findings", checks.show(findings), advice)
    if names is not None and (isinstance(names, str) or not isinstance(names, Sequence)):
        advice = "give one for each class"
        raise ConfigError("report names", "a list of names", checks.show(names), advice)
