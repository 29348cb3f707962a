"""Checks of a result against the recipe, the data and the batch size that it is examined with."""

from typing import Any

import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.train.figures import LOSS, VALID_LOSS
from fnn.train.measure import count_examples
from fnn.train.recipe import Recipe
from fnn.train.step import expect_opt_state
from fnn.types import Data, Result, TrainState


def expect_result(result: Any) -> None:
    """Raise ConfigError unless the value is the result of a single run with steps."""
    if not isinstance(result, Result):
        raise ConfigError(
            "examine result",
            "a Result, or a NonFiniteError",
            checks.show(result),
            "give that of train.run or lab.fit",
        )
    losses = np.asarray(result.history[LOSS])
    if losses.ndim != 1:
        raise ConfigError(
            "examine result",
            "the result of one run",
            f"{losses.shape[0]} lanes",
            "examine one lane: jax.tree.map(lambda array: array[0], result)",
        )
    if not losses.size:
        raise ConfigError(
            "examine result",
            "a run of at least one step",
            "no steps",
            "train for an epoch",
        )


def expect_trained_by(
    where: str,
    recipe: Recipe,
    train_state: TrainState,
) -> None:
    """Raise TreeMismatchError unless a train state is one of a run of a recipe.

    Args:
        where: Name of the result in the error.
        recipe: From `train.recipe`; without an optimizer, nothing is compared.
        train_state: Of the result.
    """
    if recipe.optimizer is not None:
        expect_opt_state(
            recipe,
            train_state.params,
            train_state.opt_state,
            f"{where} opt_state",
        )


def expect_full_epochs(
    result: Result,
    history: Any,
    epoch_length: int,
    batch_size: int,
) -> None:
    """Raise ConfigError unless the validated epochs have the steps that batches of a size fill.

    Args:
        result: Of the run.
        history: Its figures by name.
        epoch_length: Steps per epoch by this batch size.
        batch_size: Examples per step.
    """
    steps = len(history[LOSS])
    # Without validation, the number of epochs is not known. The history of a run that was continued
    # may begin within an epoch.
    if VALID_LOSS not in history or int(result.train_state.step) > steps:
        return
    epochs = len(history[VALID_LOSS])
    # The last epoch may not be over.
    if not epochs * epoch_length <= steps < (epochs + 1) * epoch_length:
        raise ConfigError(
            "examine batch_size",
            f"that of a run of {steps} steps in {epochs} epochs",
            f"{batch_size}, by which an epoch has {epoch_length} steps",
            "give the batch size and the data of the run",
        )


def find_batch_size(
    history: Any,
    data: Data,
    batch_size: int | None,
    epochs: int | None,
) -> int:
    """Return the batch size of a run, from its number of steps and epochs where it is not given.

    Args:
        history: Figures by name.
        data: (inputs, targets).
        batch_size: Of the run, or None.
        epochs: Of the history, or None.

    Raises:
        ConfigError: Neither the batch size nor the number of epochs is known, or they do not fit
            the history.
    """
    if batch_size is not None:
        return checks.whole("examine batch_size", batch_size)
    examples = count_examples(data)
    steps = len(history[LOSS])
    if epochs is None and VALID_LOSS in history:
        epochs = len(history[VALID_LOSS])
    if epochs is None:
        return expect_batch_size(None)
    epoch_length, rest = divmod(steps, checks.whole("examine epochs", epochs))
    if rest or not 0 < epoch_length <= examples:
        raise ConfigError(
            "examine epochs",
            f"a divisor of the {steps} steps of the history",
            epochs,
            "give batch_size",
        )
    # All of these fill as many batches; people choose a power of 2 or a round number.
    largest = examples // epoch_length
    least = examples // (epoch_length + 1) + 1
    for unit in (*(2**power for power in range(20, 1, -1)), 10, 5):
        if largest // unit * unit >= least:
            return largest // unit * unit
    return largest


def expect_batch_size(batch_size: int | None) -> int:
    """Return the batch size, or raise ConfigError where it is not given."""
    if batch_size is None:
        raise ConfigError(
            "examine batch_size",
            "the batch size of the run, to replay it",
            None,
            "give it, as in batch_size=64",
        )
    return checks.whole("examine batch_size", batch_size)
