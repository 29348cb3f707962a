"""The parts that searches which can be saved have in common: their description and shapes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fnn.data import digest
from fnn.search.columns import hyperparameter_columns, positions
from fnn.search.lanes import Task
from fnn.search.options import Settings
from fnn.search.score import Score
from fnn.search.space import Space
from fnn.train.recipe import Recipe
from fnn.train.step import start_on_data
from fnn.types import RandomKey, TrainState


def describe(
    name: str,
    key: RandomKey,
    space: Space,
    recipe: Recipe,
    drawn: Sequence[tuple[Recipe, dict[str, Any]]],
    task: Task,
    score: Score,
) -> dict[str, Any]:
    """Return the description of a search, by which saved results of another one are recognized.

    Args:
        name: Of the function.
        key: The key of the search.
        space: The space.
        recipe: One of its recipes, since the text of a space has no code of functions.
        drawn: The recipe and the hyperparameters of each trial.
        task: The data and the length of the runs.
        score: The figure by which trials are compared.
    """
    columns = hyperparameter_columns(space, [values for _, values in drawn])
    # Positions are numbers, so that options such as functions have a digest too.
    points = {path: positions(space.distributions[path], columns[path]) for path in columns}
    # Texts and digests, since descriptions are compared as JSON.
    return {
        "function": name,
        "space": _without_addresses(repr(space)),
        "recipe": _without_addresses(repr(recipe)),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "trials": len(drawn),
        "points": digest(points),
        "epochs": task.epochs,
        "batch_size": task.batch_size,
        "score": score.name,
        "data": digest(task.data),
        "valid": None if task.valid is None else digest(task.valid),
    }


def _without_addresses(text: str) -> str:
    """Return a text without addresses of objects, which differ between processes."""
    # A function prints with its address, as in <function f at 0x7f3c>.
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def kept_options(settings: Settings) -> dict[str, Any]:
    """Return the options of a search that its saved results depend on, as JSON values."""
    # The points and the score are described apart, and lanes are restored with the results.
    return {"seeds": settings.seeds, "keep": settings.keep}


def state_shapes(recipe: Recipe, task: Task) -> TrainState:
    """Return the shapes and dtypes of the train state of a trial.

    Args:
        recipe: Its recipe.
        task: The data.
    """

    def start(key: RandomKey) -> TrainState:
        return start_on_data(recipe, key, task.data)

    # Shapes do not depend on the key.
    return jax.eval_shape(start, jax.random.key(0))


def numbers_of(columns: Mapping[str, np.ndarray], trials: np.ndarray) -> dict[str, np.ndarray]:
    """Return the numeric hyperparameters of some trials by path, for a log."""
    # A log holds numbers, while columns of options hold objects.
    return {path: column[trials] for path, column in columns.items() if column.dtype != object}
