"""The schedule of a member of a population, and the run that follows it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.search.execution import seed_key
from fnn.search.moves import draw_moves, encode_space
from fnn.search.options import Settings
from fnn.search.rounds import Rounds, prepare_problem, stack_records
from fnn.search.space import Space, as_space
from fnn.train.recipe import Recipe
from fnn.types import Data, History, RandomKey, Result


class Schedule(NamedTuple):
    """The hyperparameters of a member and of the members it descends from.

    Attributes:
        hyperparameters: The values of each round (rounds,) by path.
        interval: Epochs of a round.
        lanes: Number of lanes of the program. A program of other lanes rounds differently.
    """

    hyperparameters: dict[str, np.ndarray]
    interval: int
    lanes: int


def replay(
    key: RandomKey,
    space: Recipe | Space,
    schedule: Schedule,
    data: Data,
    *,
    batch_size: int,
    valid: Data | None = None,
) -> Result:
    """Train a member of a population again, from the start, by its schedule.

    The result is bitwise that of the member, for the same key, space, data and options. For that,
    as many lanes are trained as in the population. `schedule._replace(lanes=1)` trains one, which
    is equal up to rounding.

    Args:
        key: The key of the population.
        space: Its space.
        schedule: From `Population.schedule`.
        data: (inputs, targets), arrays whose first axis is the example.
        batch_size: Examples per step.
        valid: (inputs, targets) for validation.

    Returns:
        The last train state, and the figures of each epoch.

    Raises:
        FnnError: An argument is not valid. Raised before anything compiles.
    """
    checks.key("key", key)
    found = as_space("replay", space)
    encoding = encode_space(found)
    _expect_schedule(schedule, found)
    lanes = checks.whole("replay lanes", schedule.lanes)
    # In float32, as in the program of the population.
    encoded = [
        axis.encode(path, column)
        for (path, column), axis in zip(
            ((path, schedule.hyperparameters[path]) for path in found.distributions),
            encoding.axes,
            strict=True,
        )
    ]
    # (rounds, hyperparameters) -> (rounds, lanes, hyperparameters)
    values = np.repeat(np.stack(encoded, 1)[:, None], lanes, 1).astype(np.float32)
    # Without validation data there is the loss of training alone.
    score = None if valid is not None else "loss"
    settings = Settings() if score is None else Settings(score=score)
    problem = prepare_problem(encoding, data, valid, settings, schedule.interval, batch_size)
    # All rounds are given, so that no member copies another.
    # The program takes moves, but does not use them here.
    moves = jax.tree.map(lambda leaf: leaf[0], draw_moves(key, encoding, 1, lanes, 0.0))
    # A population has the first seed alone.
    programs = Rounds(problem, lanes, seed_key(key, 0))
    carry = programs.start(values[0])
    records = []
    for given in values:
        carry, record = programs.run(carry, given, True, moves, 0)
        records.append(record)
    record = stack_records(records)
    # (rounds, lanes, interval, ...) -> (epochs, ...)
    figures = {
        name: jnp.asarray(rows[:, 0]).reshape(-1, *rows.shape[3:])
        for name, rows in record.figures.items()
    }
    # All lanes train the same member.
    return Result(programs.train_state(carry, 0), History(figures))


def _expect_schedule(schedule: Any, space: Space) -> None:
    """Raise ConfigError unless the value is a schedule of this space."""
    advice = "give population.schedule(member)"
    if not isinstance(schedule, Schedule):
        raise ConfigError(
            "replay schedule",
            "a Schedule",
            checks.show(schedule),
            advice,
        )
    if schedule.hyperparameters.keys() != space.distributions.keys():
        expected = f"values of {', '.join(space.distributions)}"
        got = ", ".join(schedule.hyperparameters)
        raise ConfigError(
            "replay schedule",
            expected,
            got,
            "give the space of the population",
        )
    # Each column must be (rounds,), with the same number of rounds.
    lengths = {np.shape(column) for column in schedule.hyperparameters.values()}
    if len(lengths) != 1 or len(next(iter(lengths))) != 1 or not min(lengths)[0]:
        raise ConfigError(
            "replay schedule",
            "one value for each round",
            lengths,
            advice,
        )
