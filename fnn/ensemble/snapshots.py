"""Snapshot ensembles: members from the ends of the cycles of one run."""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fnn import checks
from fnn.ensemble.members import Members, collect
from fnn.errors import ConfigError
from fnn.train.arrays import validate_data
from fnn.train.figures import RATE
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.run import run
from fnn.types import Data, History, RandomKey, Result

TOLERANCE = 1e-3  # of the lowest rate of a cycle, relative to it


class Snapshots(NamedTuple):
    """The result of `snapshots`.

    Attributes:
        members: The weights at the given epochs.
        epochs: The number of epochs before each snapshot.
        result: The result of the whole run, as of `train.run`.
    """

    members: Members
    epochs: tuple[int, ...]
    result: Result


def snapshots(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    cycles: int | None = None,
    at: Sequence[int] | None = None,
    valid: Data | None = None,
) -> Snapshots:
    """Train once, and keep the weights at the end of each cycle, or after given epochs.

        steps = train.num_steps(data, epochs=epochs // cycles, batch_size=64)
        recipe = recipe.replace(optimizer=optim.momentum(optim.cosine_restarts(0.2, steps=steps)))
        found = ensemble.snapshots(
            key, recipe, data, epochs=epochs, batch_size=64, cycles=cycles
        )
        outputs = ensemble.predict(found.members[-3:], inputs)  # the last 3 of all cycles

    The run is that of `train.run` to the last bit, and snapshot i is that run after fewer epochs.
    The schedule of the recipe should restart when a cycle ends, at its lowest rate; a warning
    names a cycle that ends at another one. Where the optimizer keeps an average of the parameters,
    a snapshot is the average at that time [Huang et al. 2017, arXiv:1704.00109].

    Args:
        key: Of the run, from `jax.random.key`.
        recipe: From `train.recipe`, with an optimizer and without early stopping.
        data: (inputs, targets), arrays whose first axis is the example.
        epochs: Passes over the data of the whole run.
        batch_size: Examples per step.
        cycles: Number of cycles of equal length, which divides `epochs`; or None.
        at: Numbers of epochs, rising, after which to keep the weights; or None. Exactly one of
            the two is given.
        valid: (inputs, targets) to evaluate after each epoch; None for no validation.

    Raises:
        ConfigError: An argument is not of the type described here.
        FnnError: The data does not fit the recipe, as for `train.run`.
        NonFiniteError: As for `train.run`.
    """
    expect_recipe("snapshots", recipe)
    checks.whole("snapshots epochs", epochs)
    if (cycles is None) == (at is None):
        got = "neither" if cycles is None else "both"
        advice = "give cycles=5 for cycles of equal length, or at=[10, 20]"
        raise ConfigError(
            "snapshots",
            "either cycles or at",
            got,
            advice,
        )
    ends = _cycle_ends(epochs, cycles) if at is None else _expect_epochs(epochs, at)
    if recipe.early_stopping is not None:
        advice = "use recipe.replace(early_stopping=None)"
        raise ConfigError(
            "snapshots early_stopping",
            "None",
            "a condition",
            advice,
        )
    # Once for all parts of the run.
    data = validate_data("data", data)
    if valid is not None:
        valid = validate_data("valid", valid)
    states = []
    result: Result | None = None
    # Each part of the run ends at a snapshot.
    # The weights are not kept at the end of a run that continues after the last snapshot.
    for begin, end in pairwise((0, *ends, *([] if ends[-1] == epochs else [epochs]))):
        # It continues from the state and the history of the part before.
        result = run(
            key,
            recipe,
            data,
            epochs=end - begin,
            batch_size=batch_size,
            valid=valid,
            resume=result,
        )
        states.append(result.train_state)
    # There is at least one part.
    assert result is not None
    if cycles is not None:
        _warn_of_rates(result.history, cycles)
    # A state after the last snapshot belongs to `result` alone.
    return Snapshots(collect(recipe, states[: len(ends)]), ends, result)


def _cycle_ends(epochs: int, cycles: Any) -> tuple[int, ...]:
    """Return the number of epochs at the end of each cycle."""
    checks.whole("snapshots cycles", cycles)
    if cycles > epochs or epochs % cycles:
        expected = f"a divisor of the {epochs} epochs"
        advice = "choose cycles of whole epochs, all of one length, or give at=[...]"
        raise ConfigError(
            "snapshots cycles",
            expected,
            cycles,
            advice,
        )
    length = epochs // cycles
    # The end of the last cycle is the end of the run.
    return tuple(range(length, epochs + 1, length))


def _expect_epochs(epochs: int, at: Any) -> tuple[int, ...]:
    """Return the epochs of the snapshots; ConfigError unless they rise from 1 to `epochs`."""
    # A text is a sequence as well.
    if not isinstance(at, Sequence | np.ndarray) or isinstance(at, str) or len(at) == 0:
        advice = "as in at=[10, 15, 20]"
        raise ConfigError(
            "snapshots at",
            "numbers of epochs",
            checks.show(at),
            advice,
        )
    ends = tuple(checks.whole("snapshots at", end) for end in at)
    is_rising = all(one < other for one, other in pairwise(ends))
    if not is_rising or ends[-1] > epochs:
        expected = f"rising numbers of epochs from 1 to {epochs}"
        raise ConfigError(
            "snapshots at",
            expected,
            list(ends),
            "sort them, or train longer",
        )
    return ends


def _warn_of_rates(history: History, cycles: int) -> None:
    """Warn of a cycle whose last rate is not its lowest."""
    # Within jax.jit rates have no values yet.
    if not checks.is_concrete(history[RATE]):
        return
    # (cycles, steps)
    rates = np.asarray(history[RATE]).reshape(cycles, -1)
    lowest = rates.min(1)  # (cycles,)
    # Of an optimizer without a rate they are NaN.
    is_late = rates[:, -1] > lowest * (1 + TOLERANCE)
    if is_late.any():
        cycle = int(is_late.argmax())
        # The advice names the length of a cycle.
        steps = rates.shape[1]
        message = (
            f"snapshots: expected the lowest rate at the end of each cycle, got "
            f"{rates[cycle, -1]:.3g} at the end of cycle {cycle + 1}, whose lowest is "
            f"{lowest[cycle]:.3g}; use optim.cosine_restarts(peak, steps={steps})"
        )
        warnings.warn(message, stacklevel=3)
