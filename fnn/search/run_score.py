"""The score of a run: a figure of validation by name, or a function of recipe and result."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.optim.transforms.plateau import has_plateau
from fnn.train.evaluate import evaluate
from fnn.train.figures import LOSS, VALID, validation_name
from fnn.train.recipe import Recipe
from fnn.types import Data, OptState, Result

Score = str | Callable[[Recipe, Result], Any]


def expect_score(
    recipe: Recipe,
    score: Any,
    valid: Any,
) -> None:
    """Raise ConfigError unless a run of the recipe has the score.

    Args:
        recipe: From `train.recipe`.
        score: Name of a figure of validation, or a function.
        valid: Data of validation, or None.
    """
    # The value of a function is checked when it is known, in `measure_score`.
    if callable(score):
        return
    names = [validation_name(name) for name in (LOSS, *recipe.metrics)]
    if not isinstance(score, str) or score not in names:
        raise ConfigError(
            "hypergradient score",
            f"one of {', '.join(names)}, or a function (recipe, result) -> number",
            repr(score),
            "choose one of them",
        )
    if valid is None:
        raise ConfigError(
            "valid",
            f"validation data, whose {score.removeprefix(VALID)} is the score",
            None,
            "give valid=",
        )


def needs_validation(
    score: Score,
    recipe: Recipe,
    opt_state: OptState,
) -> bool:
    """Return whether a run is validated after each epoch, not only at the end for its score.

    Args:
        score: Name of a figure of validation, or a function, which may read the history.
        recipe: From `train.recipe`.
        opt_state: State of its optimizer.
    """
    return callable(score) or recipe.early_stopping is not None or has_plateau(opt_state)


def measure_score(
    score: Score, recipe: Recipe, result: Result, valid: Data | None, batch_size: int
) -> Array:
    """Return the score of a run, a scalar.

    Args:
        score: Name of a figure of validation, or a function.
        recipe: The recipe of the run.
        result: Its result, traced.
        valid: Validated data of validation.
        batch_size: Examples that are evaluated at once.

    Raises:
        ShapeError: The function does not return one number.
        DTypeError: It is not a floating-point number.
        ConfigError: It is a constant.
    """
    if isinstance(score, str):
        assert valid is not None  # expect_score has checked this
        figures = evaluate(recipe, result.train_state, valid, batch_size=batch_size)
        return figures[score.removeprefix(VALID)]
    value = score(recipe, result)
    where = "hypergradient score"
    leaves: list[Any] = jax.tree.leaves(value)
    if len(leaves) != 1 or jnp.shape(leaves[0]) != () or not isinstance(leaves[0], Array | float):
        advice = "take one entry, a mean or a sum"
        raise ShapeError(
            where,
            "one number",
            checks.show(value),
            advice,
        )
    number: Any = leaves[0]
    # A traced number depends on the run, a concrete one does not.
    if checks.is_concrete(number):
        advice = "compute it from the recipe and the result that the function gets"
        raise ConfigError(
            where,
            "a function of the run",
            f"the constant {number}",
            advice,
        )
    # A count of errors, for example, has no derivative.
    if not jnp.issubdtype(number.dtype, jnp.floating):
        advice = "give a figure with a gradient, such as a loss"
        raise DTypeError(
            where,
            "a floating-point number",
            number.dtype,
            advice,
        )
    return jnp.asarray(number)
