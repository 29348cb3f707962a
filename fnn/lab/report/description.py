"""The content of the report of a run or a search: its figures, findings and code."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fnn import diagnose, train
from fnn.diagnose import Findings
from fnn.lab.report.content import (
    Report,
    Series,
    count_steps,
    final_figures,
    sample_history,
)
from fnn.lab.report.layer_section import ACTIVATIONS, INSTRUMENTS
from fnn.lab.report.reproduction import describe_key, describe_recipe, describe_versions
from fnn.search.trials import Trials
from fnn.train.figures import LOSS, VALID_LOSS
from fnn.train.inputs import example_shapes
from fnn.train.recipe import Recipe
from fnn.train.step import start_on_data
from fnn.types import Data, Result, TrainState


class Inputs(NamedTuple):
    """The arguments of a report, each of which may be missing.

    Attributes:
        recipe: Of the run.
        data: Validated (inputs, targets) of training.
        valid: Validated (inputs, targets) of validation.
        names: Name of each class.
    """

    recipe: Recipe | None = None
    data: Data | None = None
    valid: Data | None = None
    names: Sequence[str] | None = None

    @property
    def can_train(self) -> bool:
        """Whether the run can be computed again."""
        return (
            self.recipe is not None and self.recipe.optimizer is not None and self.data is not None
        )


def examine(result: Result, inputs: Inputs) -> Findings | None:
    """Examine a run whose batch size follows from its epochs; None for others.

    Args:
        result: Of one run.
        inputs: Of the report.
    """
    epochs = len(result.history.get(VALID_LOSS, ()))
    if not inputs.can_train or not epochs or len(result.history[LOSS]) % epochs:
        return None
    assert inputs.recipe is not None and inputs.data is not None
    return diagnose.examine(
        inputs.recipe,
        result,
        inputs.data,
        valid=inputs.valid,
    )


def describe_run(result: Result, inputs: Inputs, findings: Findings | None) -> Report:
    """Return the content of the report of a run.

    Args:
        result: Of one run.
        inputs: Of the report.
        findings: Of an examination, or None.
    """
    history = sample_history(result.history)
    figures = final_figures(result.history)
    if inputs.recipe is not None:
        figures |= _evaluate(inputs.recipe, result.train_state, inputs)
    return Report(
        findings=findings,
        figures=figures,
        history=history,
        columns=_columns(result, history, inputs),
        steps=count_steps(result.history),
        recipe=describe_recipe(inputs.recipe),
        key=describe_key(result.train_state.key),
        versions=describe_versions(),
    )


def describe_search(trials: Trials, inputs: Inputs, findings: Findings | None) -> Report:
    """Return the content of the report of a search.

    Args:
        trials: Its results.
        inputs: Of the report.
        findings: Of an examination, or None.
    """
    best = trials.best
    recipe = best.recipe if inputs.recipe is None else inputs.recipe
    return Report(
        findings=findings,
        figures={"best trial": {trials.figure.name: best.score}},
        history={},
        columns={},
        steps=len(trials),
        recipe=describe_recipe(recipe),
        key="",
        versions=describe_versions(),
    )


def _evaluate(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Inputs,
) -> dict[str, dict[str, float]]:
    """Return the figures in evaluation mode, also those before training."""
    cases: dict[str, tuple[TrainState, Data | None]] = {}
    if inputs.can_train:
        assert inputs.data is not None
        first = start_on_data(recipe, train_state.key, inputs.data)
        cases["before training"] = (first, inputs.data)
    cases["training, evaluation mode"] = (train_state, inputs.data)
    cases["valid, evaluation mode"] = (train_state, inputs.valid)
    figures = {}
    for name, (state, examples) in cases.items():
        if examples is not None:
            found = train.evaluate(recipe, state, examples)
            figures[name] = {one: float(value) for one, value in found.items() if not value.ndim}
    return figures


def _columns(
    result: Result,
    history: Mapping[str, Series],
    inputs: Inputs,
) -> dict[str, tuple[str, ...]]:
    """Return the names of the layers or parameters of each figure of instruments."""
    recipe = inputs.recipe
    if recipe is not None and recipe.instruments is not None and inputs.data is not None:
        shapes = example_shapes(recipe, inputs.data[0])
        names = recipe.instruments.columns(recipe.network, result.train_state.params, shapes)
        return {name: names[name] for name in names if name in history}
    columns = {}
    for name in INSTRUMENTS:
        if name in history:
            # Without the network, layers have numbers.
            kind = "layer" if name in ACTIVATIONS else "parameter"
            count = history[name].values.shape[-1]
            columns[name] = tuple(f"{kind} {index}" for index in range(count))
    return columns
