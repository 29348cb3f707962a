"""Reports of runs and searches: verdict, findings, figures, data and code in one HTML file."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn import checks, trees
from fnn.data.sets.dataset import file_path
from fnn.diagnose import Findings
from fnn.diagnose.run_checks import expect_trained_by
from fnn.errors import ConfigError
from fnn.lab.disk import replace_file, write_errors
from fnn.lab.plots.curves import read_curves
from fnn.lab.report.cards import finding_cards, verdict
from fnn.lab.report.comparison import comparison_section
from fnn.lab.report.content import MAX_BYTES, Report, embed, read_report, sample_history
from fnn.lab.report.curvature_section import curvature_section
from fnn.lab.report.data_section import data_section, input_section
from fnn.lab.report.description import Inputs, describe_run, describe_search, examine
from fnn.lab.report.histogram_section import histogram_section
from fnn.lab.report.layer_section import layer_section, measured_ends, recorded_ends
from fnn.lab.report.markup import Markup, notice
from fnn.lab.report.page import page
from fnn.lab.report.prediction_section import prediction_section
from fnn.lab.report.reproduction import reproduction_section
from fnn.lab.report.run_section import run_section
from fnn.lab.report.search_section import search_section, search_verdict
from fnn.lab.report.svg import report_style
from fnn.search.trials import Trials
from fnn.train.arrays import validate_data
from fnn.train.figures import LOSS
from fnn.train.recipe import Recipe, expect_recipe
from fnn.types import Data, Result

FilePath = str | os.PathLike[str]
# Sections that are left out of a report that is too large, the first ones first.
OPTIONAL = ("inputs", "search", "histograms", "predictions", "layers", "comparison", "data", "run")
DRAWN_NUMBERS = 1_000_000  # of a figure of layers
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
    learning curves and events, the layers (of a run with instruments) and histograms of their
    activations (of the tier full), curvature (of findings T17 and T18), predictions, the inputs of
    the network, the data, a comparison, and the code that reproduces the run. Sections whose
    arguments are not given are left out. The same arguments give the same bytes, of at most 2 MB:
    sections of larger reports are left out. Needs matplotlib: pip install '.[plot]'.

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
    _expect_arguments(
        result,
        recipe,
        findings,
        names,
    )
    trees.expect_known("report", (result, recipe, data, valid))
    data = None if data is None else validate_data("data", data)
    valid = None if valid is None else validate_data("valid", valid)
    inputs = Inputs(
        recipe,
        data,
        valid,
        names,
    )
    if findings is None and isinstance(result, Result):
        findings = examine(result, inputs)
    with report_style():
        if isinstance(result, Trials):
            draft = _draft_search(result, inputs, findings)
        else:
            draft = _draft_run(result, inputs, findings)
        text = _fit(draft, other)
    with write_errors(f"report {target.name}", target.parent):
        replace_file(target, [text.encode()])
    return draft.content


class Draft(NamedTuple):
    """The parts of a page.

    Attributes:
        content: Of the report.
        head: The verdict.
        sections: Of the run or search.
        titles: Title of the page, and one line below it.
    """

    content: Report
    head: Markup
    sections: list[Markup]
    titles: tuple[str, str]


def _draft_run(result: Result, inputs: Inputs, findings: Findings | None) -> Draft:
    content = describe_run(result, inputs, findings)
    leaves = jax.tree.leaves(result.train_state.params)
    count = sum(leaf.size for leaf in leaves)
    subtitle = f"{content.steps:,} steps, {count:,} parameters."
    sections = _run_sections(result, content, inputs)
    titles = ("Report of a run", subtitle)
    return Draft(
        content,
        verdict(findings),
        sections,
        titles,
    )


def _draft_search(trials: Trials, inputs: Inputs, findings: Findings | None) -> Draft:
    content = describe_search(trials, inputs, findings)
    head = search_verdict(trials)
    sections = [search_section(trials)]
    if findings is not None:
        head = verdict(findings)
        sections.insert(
            0,
            finding_cards(
                findings,
                None,
                {},
                {},
            ),
        )
    if inputs.data is not None:
        sections.append(data_section(inputs.data, inputs.valid, inputs.names))
    titles = (f"Search of {len(trials)} trials", f"Compared by {trials.figure.name}.")
    return Draft(
        content,
        head,
        sections,
        titles,
    )


def _run_sections(result: Result, content: Report, inputs: Inputs) -> list[Markup]:
    curves = read_curves("report", result)
    # More steps than in the content: drawn, they take less room than as text.
    history = sample_history(result.history, DRAWN_NUMBERS)
    sections: list[Markup | None] = []
    if content.findings:
        cards = finding_cards(
            content.findings,
            curves,
            history,
            content.columns,
        )
        sections.append(cards)
    sections.append(run_section(curves, content.figures))
    recipe, data, valid, names = inputs
    ends = recorded_ends(history, content.columns)
    if inputs.can_train:
        assert recipe is not None and data is not None
        ends = measured_ends(recipe, result.train_state, data)
    sections.append(layer_section(history, content.columns, ends))
    sections.append(histogram_section(result.history, content.columns.get("activation_mean")))
    sections.append(curvature_section(content.findings))
    examples = data if valid is None else valid
    if recipe is not None and examples is not None:
        part = "training" if valid is None else "validation"
        predictions = prediction_section(
            recipe,
            result.train_state,
            examples,
            part,
            names,
        )
        sections.append(predictions)
    if recipe is not None and data is not None:
        key = result.train_state.key
        sections.append(
            input_section(
                key,
                recipe,
                data,
                names,
            )
        )
    if data is not None:
        sections.append(data_section(data, valid, names))
    return [one for one in sections if one is not None]


def _fit(draft: Draft, other: tuple[str, Report] | None) -> str:
    """Return the page, without the sections that it has no room for.

    Args:
        draft: Its parts.
        other: Name and content of the run to compare with, or None.
    """
    content = draft.content
    kept = list(draft.sections)
    if other is not None:
        kept.append(comparison_section(content, other[1], other[0]))
    kept.append(reproduction_section(content))
    data = embed(content)
    text = page(
        draft.titles,
        [draft.head],
        kept,
        data,
    )
    omitted = []
    for name in OPTIONAL:
        if len(text.encode()) <= MAX_BYTES:
            break
        remaining = [one for one in kept if not one.startswith(f'<section id="{name}">')]
        if len(remaining) < len(kept):
            kept = remaining
            omitted.append(name)
            note = notice(f"Left out, since a report holds at most 2 MB: {', '.join(omitted)}.")
            text = page(
                draft.titles,
                [draft.head, note],
                kept,
                data,
            )
    return text


def _expect_path(path: FilePath) -> Path:
    target = file_path("report path", path)
    if target.suffix not in SUFFIXES:
        raise ConfigError(
            "report path",
            "the suffix .html",
            target.name,
            "try report.html",
        )
    if target.is_dir():
        raise ConfigError(
            "report path",
            "a file",
            f"{target}, a folder",
            "name a file in it",
        )
    if not target.parent.is_dir():
        raise ConfigError(
            "report path",
            "a folder that exists",
            target.parent,
            "make it first",
        )
    return target


def _expect_other(compare: Any) -> tuple[str, Report] | None:
    """Return the name and the content of the run to compare with, or None."""
    if compare is None:
        return None
    if isinstance(compare, Report):
        return "other run", compare
    if isinstance(compare, Result):
        _expect_run("report compare", compare)
        return "other run", describe_run(compare, Inputs(), None)
    if isinstance(compare, str | os.PathLike):
        return Path(compare).stem, read_report(compare)
    expected = "a Result, a Report or the file of a report"
    raise ConfigError(
        "report compare",
        expected,
        checks.show(compare),
        "give that of another run",
    )


def _expect_run(where: str, result: Result) -> None:
    """Raise an error unless the result is that of one run of a step or more."""
    read_curves(where, result)
    shape = np.shape(result.history[LOSS])
    if len(shape) != 1:
        advice = "take one lane: jax.tree.map(lambda array: array[0], result)"
        raise ConfigError(
            where,
            "the result of one run",
            f"losses {shape}",
            advice,
        )


def _expect_arguments(result: Any, recipe: Any, findings: Any, names: Any) -> None:
    if not isinstance(result, Result | Trials):
        expected = "the result of a run, or the trials of a search"
        advice = "give that of train.run, lab.fit or search.random"
        raise ConfigError(
            "report result",
            expected,
            checks.show(result),
            advice,
        )
    if isinstance(result, Result):
        _expect_run("report result", result)
    if recipe is not None:
        expect_recipe("report", recipe, trains=False)
        if isinstance(result, Result):
            expect_trained_by("report result", recipe, result.train_state)
    if findings is not None and not isinstance(findings, Findings):
        advice = "give those of diagnose.examine"
        raise ConfigError(
            "report findings",
            "Findings",
            checks.show(findings),
            advice,
        )
    if names is not None and (isinstance(names, str) or not isinstance(names, Sequence)):
        advice = "give one for each class"
        raise ConfigError(
            "report names",
            "a list of names",
            checks.show(names),
            advice,
        )
