"""Population-based training: members that copy better ones and change their hyperparameters.

The whole search is one compiled program, see rounds.py. All random choices are drawn on the host
beforehand and are arguments of the program.

A member's weights are the result of a schedule of hyperparameters, not of the last ones alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.search.execution import Settings, expect_finite_score, expect_settings, seed_key
from fnn.search.lanes import Lanes, prepare_task
from fnn.search.moves import Encoding, Moves, encode_space
from fnn.search.random import POINTS
from fnn.search.rounds import Problem, Record, join_state, train_rounds
from fnn.search.samplers import host_generator, unit_points
from fnn.search.score import find_score
from fnn.search.space import Space, as_space
from fnn.search.trials import Trials, hyperparameter_columns
from fnn.train.recipe import Recipe
from fnn.types import Data, History, RandomKey, Result, TrainState

# Uses of the key of a search, besides those of random search.
CHANGES = 2
UP, DOWN = 1.2, 0.8  # factors of a perturbation


class PopulationOptions(TypedDict, total=False):
    """The options of `search.population`."""

    quantile: float
    resample: float
    initial: Sequence[Mapping[str, Any]]
    score: str
    mode: str | None
    keep: int
    lanes: int | str


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


@dataclass(frozen=True, eq=False, repr=False)
class Population(Trials):
    """The results of population-based training. Its trials are the members after the last round.

    Recipes and hyperparameters are those of the last round. The history of a member is that of its
    weights, along the members it descends from.

    Attributes:
        rounds: The hyperparameters of each round by path, (rounds, members).
        parents: The member whose train state each one had at the beginning of a round,
            (rounds, members).
        round_scores: The score of each member after each round, (rounds, members).
        interval: Epochs of a round.
        lanes: Number of members that were trained at a time.
    """

    rounds: dict[str, np.ndarray]
    parents: np.ndarray
    round_scores: np.ndarray
    interval: int
    lanes: int

    def lineage(self, member: int) -> np.ndarray:
        """Return the member that had the weights of this one in each round, (rounds,).

        Args:
            member: Its index.
        """
        line = [range(len(self))[member]]
        for parents in self.parents[:0:-1]:
            line.append(int(parents[line[-1]]))
        return np.array(line[::-1])

    def schedule(self, member: int) -> Schedule:
        """Return the schedule that made a member: `search.replay` trains it again.

        Args:
            member: Its index.
        """
        line = self.lineage(member)
        values = {path: column[np.arange(len(line)), line] for path, column in self.rounds.items()}
        return Schedule(values, self.interval, self.lanes)


def population(
    key: RandomKey,
    space: Recipe | Space,
    data: Data,
    *,
    epochs: int,
    interval: int,
    batch_size: int,
    valid: Data | None = None,
    members: int,
    **options: Unpack[PopulationOptions],
) -> Population:
    """Population-based training: hyperparameters that change while members train.

        population = search.population(
            key, space, data, valid=valid, epochs=20, interval=2, batch_size=64, members=16
        )
        result = search.replay(key, space, population.schedule(population.best.index), data,
                               valid=valid, batch_size=64)

    Before each round but the first, the worst quarter of the members copy the train states and
    hyperparameters of members drawn from the best quarter, and change each hyperparameter: with
    probability 0.25 it is drawn again, otherwise it is multiplied by 1.2 or 0.8. One that may be
    negative moves by 0.2 standard deviations instead, an integer is rounded and moves by at least
    1, and a choice of numbers moves to a neighbor. All stay within the space.

    Of equal scores the member with the lower index is better, so that members with equal scores
    copy too. A diverged member is never copied, and copies another one. All members have the same
    key, hence the same start and the same order of examples [Jaderberg et al. 2017,
    arXiv:1711.09846].

    Args:
        key: From `jax.random.key`. It determines the members, their runs and all changes.
        space: A recipe with distributions in the place of numbers, or a `search.space` of a
            function that can be traced. Structure, such as a width, cannot change in training.
        data: (inputs, targets), arrays whose first axis is the example.
        epochs: Passes over the data, a multiple of `interval`.
        interval: Epochs of a round.
        batch_size: Examples per step.
        valid: (inputs, targets) by which members are compared.
        members: Number of members, >= 2.
        options: `quantile=0.25`, the share of members that copy and that are copied, in (0, 0.5],
            rounded up. `resample=0.25`, the probability that a hyperparameter is drawn again.
            `initial=()`, hyperparameters by path of the first members. Also `score`, `mode`, `keep`
            and `lanes`, those of `search.random`.

    Returns:
        The population. The result is the schedule of a member, not its last hyperparameters.

    Raises:
        FnnError: An argument is not valid. Raised before anything compiles.
        NonFiniteError: The scores of all members are NaN or infinite.
    """
    checks.key("key", key)
    found = as_space("population", space)
    encoding = encode_space(found)
    # Members compete after each round.
    rounds = _count_rounds(epochs, interval)
    checks.whole("members", members, 2)
    given = dict(options)
    quantile = checks.number("population quantile", given.pop("quantile", 0.25), "(0, 0.5]")
    resample = checks.number("population resample", given.pop("resample", 0.25), "[0, 1]")
    initial = given.pop("initial", ())
    unused = ("sampler", "monitor")
    settings = expect_settings(given, unused=unused)  # type: ignore[arg-type]
    start = _initial_values(key, found, encoding, members, initial)
    problem = _prepare(encoding, data, valid, settings, interval, batch_size)
    lanes = Lanes(encoding.recipe, problem.task, members, settings.lanes)
    size = _divisor(members, lanes.size if lanes.is_mapped else 1)
    moves = _draw_moves(key, encoding, rounds, members, resample)
    # Rounded up: one member at least.
    count = min(int(np.ceil(quantile * members)), members // 2)
    # Only the first round is given; later ones follow from the moves.
    values = np.zeros((rounds, *start.shape), np.float32)
    values[0] = start
    is_given = np.arange(rounds) == 0
    states, record = train_rounds(problem, size, seed_key(key, 0), values, is_given, moves, count)
    return _results(found, encoding, problem, settings, states, record, interval, size)


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
    rounds = len(next(iter(schedule.hyperparameters.values())))
    columns = [
        axis.encode(path, column)
        for (path, column), axis in zip(
            ((path, schedule.hyperparameters[path]) for path in found.distributions),
            encoding.axes,
            strict=True,
        )
    ]
    # (rounds, hyperparameters) -> (rounds, lanes, hyperparameters)
    values = np.repeat(np.stack(columns, 1)[:, None], lanes, 1).astype(np.float32)
    score = None if valid is not None else "loss"
    settings = Settings() if score is None else Settings(score=score)
    problem = _prepare(encoding, data, valid, settings, schedule.interval, batch_size)
    moves = _draw_moves(key, encoding, rounds, lanes, 0.0)
    # All rounds are given, so that no member copies another.
    is_given = np.ones(rounds, bool)
    states, record = train_rounds(problem, lanes, seed_key(key, 0), values, is_given, moves, 0)
    # (rounds, lanes, interval) -> (epochs,)
    figures = {name: jnp.asarray(rows[:, 0]).reshape(-1) for name, rows in record.figures.items()}
    return Result(_member_of(states, 0), History(figures))


def _prepare(
    encoding: Encoding,
    data: Data,
    valid: Data | None,
    settings: Settings,
    interval: int,
    batch_size: int,
) -> Problem:
    """Return the checked arguments; raise an FnnError if they do not fit the recipe."""
    recipe = encoding.recipe
    task = prepare_task([recipe], data, valid, epochs=interval, batch_size=batch_size)
    if recipe.early_stopping is not None:
        advice = "leave it out: members that are worse copy better ones"
        raise ConfigError(
            "population space",
            "a recipe without early_stopping",
            recipe,
            advice,
        )
    if settings.seeds != 1:
        advice = "call search.population with several keys"
        raise ConfigError(
            "population seeds",
            "1",
            settings.seeds,
            advice,
        )
    score = find_score(recipe, settings.score, settings.mode, has_valid=valid is not None)
    return Problem(encoding, task, score)


def _count_rounds(epochs: int, interval: int) -> int:
    checks.whole("epochs", epochs)
    checks.whole("interval", interval)
    if epochs % interval:
        advice = f"train for {epochs // interval * interval or interval} epochs"
        raise ConfigError(
            "epochs",
            f"a multiple of interval = {interval}",
            epochs,
            advice,
        )
    return epochs // interval


def _initial_values(
    key: RandomKey, space: Space, encoding: Encoding, members: int, initial: Any
) -> np.ndarray:
    """Return the encoded hyperparameters of the first round, (members, hyperparameters)."""
    # The same as the trials of random search with this key.
    points = unit_points(jax.random.fold_in(key, POINTS), members, len(encoding.axes))
    values = encoding.quantiles(points)
    if len(initial) > members:
        advice = "give more members"
        raise ConfigError(
            "population initial",
            f"at most {members}",
            len(initial),
            advice,
        )
    for index, chosen in enumerate(initial):
        if chosen.keys() != space.distributions.keys():
            expected = f"a value of each of {', '.join(space.distributions)}"
            raise ConfigError(
                "population initial",
                expected,
                list(chosen),
                "check the paths",
            )
        for place, (path, axis) in enumerate(zip(space.distributions, encoding.axes, strict=True)):
            values[index, place] = axis.encode(path, [chosen[path]])[0]
    return values


def _draw_moves(
    key: RandomKey, encoding: Encoding, rounds: int, members: int, resample: float
) -> Moves:
    """Draw all random choices of a search; those of a round do not depend on their number."""
    generator = host_generator(jax.random.fold_in(key, CHANGES))
    shape = (members, len(encoding.axes))
    drawn = []
    for _ in range(rounds):
        drawn.append(
            Moves(
                parent=generator.random(members, np.float32),
                resampled=encoding.quantiles(generator.random(shape)),
                is_resampled=generator.random(shape) < resample,
                change=np.where(generator.random(shape) < 0.5, UP, DOWN).astype(np.float32) - 1,
            )
        )
    return Moves(*(np.stack(parts) for parts in zip(*drawn, strict=True)))


def _divisor(members: int, size: int) -> int:
    """Return the largest number of lanes of at most this size that leaves no remainder."""
    return next(lanes for lanes in range(size, 0, -1) if members % lanes == 0)


def _member_of(states: TrainState, member: int) -> TrainState:
    parts = jax.tree.map(lambda leaf: leaf[member], states[:3])
    return join_state(parts, states.step, states.key)


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
    lengths = {np.shape(column) for column in schedule.hyperparameters.values()}
    if len(lengths) != 1 or len(next(iter(lengths))) != 1 or not min(lengths)[0]:
        raise ConfigError(
            "replay schedule",
            "one value for each round",
            lengths,
            advice,
        )


def _results(
    space: Space,
    encoding: Encoding,
    problem: Problem,
    settings: Settings,
    states: TrainState,
    record: Record,
    interval: int,
    lanes: int,
) -> Population:
    rounds, members, _ = record.values.shape
    paths = list(space.distributions)
    decoded = [
        np.asarray(axis.decode(record.values[..., place]))
        for place, axis in enumerate(encoding.axes)
    ]
    columns = dict(zip(paths, decoded, strict=True))
    round_scores = np.asarray(record.figures[problem.score.name][..., -1], float)
    scores = round_scores[-1][:, None]
    expect_finite_score(problem.score, scores)
    drawn = [
        space.choose({path: column[-1, member].item() for path, column in columns.items()})
        for member in range(members)
    ]
    population = Population(
        space=space,
        recipes=[recipe for recipe, _ in drawn],
        hyperparameters=hyperparameter_columns(space, [values for _, values in drawn]),
        scores=scores,
        histories={},
        epochs=np.full(members, rounds * interval),
        score=problem.score,
        kept={},
        rounds=columns,
        parents=record.parents,
        round_scores=round_scores,
        interval=interval,
        lanes=lanes,
    )
    lines = np.stack([population.lineage(member) for member in range(members)])
    for name, rows in record.figures.items():
        # (rounds, members, interval) -> (members, 1, epochs), along the lines of descent
        along = rows[np.arange(rounds), lines].reshape(members, 1, -1)
        population.histories[name] = np.asarray(along, float)
    for member in population.ranked[: settings.keep].tolist():
        population.kept[member] = (_member_of(states, member),)
    return population
