"""Population-based training: members that copy better ones and change their hyperparameters.

A round is one compiled program, see rounds.py. All random choices are drawn on the host beforehand
and are arguments of the program.

A member's weights are the result of a schedule of hyperparameters, not of the last ones alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import jax
import numpy as np

from fnn import checks
from fnn.data import digest
from fnn.errors import ConfigError
from fnn.search.columns import hyperparameter_columns, positions
from fnn.search.description import describe
from fnn.search.execution import expect_finite_score, seed_key
from fnn.search.lanes import Lanes
from fnn.search.monitor import Monitor, Report, Saved
from fnn.search.moves import Encoding, Moves, draw_moves, encode_space
from fnn.search.options import Settings, expect_key, read_options
from fnn.search.random import POINTS
from fnn.search.replay import Schedule
from fnn.search.rounds import Carry, Problem, Record, Rounds, prepare_problem, stack_records
from fnn.search.samplers import unit_points
from fnn.search.score import Score
from fnn.search.space import Space, as_space
from fnn.search.statistics import BestOfN
from fnn.search.trials import Trials
from fnn.train.recipe import Recipe
from fnn.types import Data, RandomKey


class PopulationOptions(TypedDict, total=False):
    """The options of `search.population`."""

    quantile: float
    resample: float
    initial: Sequence[Mapping[str, Any]]
    score: str
    mode: str | None
    keep: int
    lanes: int | str
    monitor: Monitor | None


@dataclass(frozen=True)
class PopulationSettings(Settings):
    """The options of a population with their defaults.

    Attributes:
        quantile: Share of the members that copy and that are copied, in (0, 0.5].
        resample: Probability that a hyperparameter is drawn again.
        initial: Hyperparameters by path of the first members.
    """

    quantile: float = 0.25
    resample: float = 0.25
    initial: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("population quantile", self.quantile, "(0, 0.5]")
        checks.number("population resample", self.resample, "[0, 1]")


@dataclass(frozen=True, eq=False, repr=False)
class Population(Trials):
    """The results of population-based training. Its trials are the members after the last round.

    Recipes and hyperparameters are those of the last round. The history of a member is that of its
    weights, along the members it descends from.

    `boundaries` and `importance` are those of the first round. Its values are drawn without
    knowledge of scores, as the statistics assume; members of later rounds are copies of others.

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

    def best_of_n(self, *, confidence: float = 0.9) -> BestOfN:
        """Raise ConfigError: members copy each other, so they are no independent trials.

        Args:
            confidence: As for `Trials.best_of_n`.
        """
        raise ConfigError(
            "best_of_n",
            "independent trials",
            "members, which copy each other",
            "use the trials of search.random",
        )

    def _best_of_n_text(self) -> str:
        return "not defined, since members copy each other"

    def _evidence(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        # Values of the first round are drawn without knowledge of scores.
        first = positions(self.space.distributions[path], self.rounds[path][0])
        return first, self.figure.cost(self.round_scores[0])

    def lineage(self, member: int) -> np.ndarray:
        """Return the member that had the weights of this one in each round, (rounds,).

        Args:
            member: Its index.
        """
        # A negative index counts from the end.
        line = [range(len(self))[member]]
        # From the last round to the second, since the first one has no parents.
        for parents in self.parents[:0:-1]:
            line.append(int(parents[line[-1]]))
        return np.array(line[::-1])

    def schedule(self, member: int) -> Schedule:
        """Return the schedule that made a member: `search.replay` trains it again.

        Args:
            member: Its index.
        """
        line = self.lineage(member)
        # (rounds, members) -> (rounds,)
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
    expect_key(key)
    found = as_space("population", space)
    encoding = encode_space(found)
    # Members compete after each round.
    rounds = _count_rounds(epochs, interval)
    checks.whole("members", members, 2)
    settings = read_options(population, PopulationSettings, options, unused=("sampler", "mesh"))
    start = _initial_values(key, found, encoding, members, settings.initial)
    problem = prepare_problem(encoding, data, valid, settings, interval, batch_size)
    moves = draw_moves(key, encoding, rounds, members, settings.resample)
    # Rounded up: one member at least.
    # At most half, so that a member that is copied does not copy.
    count = min(int(np.ceil(settings.quantile * members)), members // 2)
    monitor = settings.monitor
    saved = None
    if monitor is not None:
        search = _describe(key, found, problem, start, moves) | {"copied": count}
        saved = monitor.begin(search, rounds, "round")
    if saved is None:
        lanes = Lanes(encoding.recipe, problem.task, members, settings.lanes)
        # Lanes that divide the members, since a round pads none.
        size = _divisor(members, lanes.width)
    else:
        # A resumed search has the same lanes, so that its numbers are the same to the last bit.
        size = saved.notes["lanes"]
    programs = Rounds(problem, size, seed_key(key, 0))
    records: list[Record] = []
    if saved is None:
        carry = programs.start(start)
    else:
        carry, records = _restore(programs, start, saved)
    for index in range(len(records), rounds):
        # There is no result before the first round.
        if monitor is not None and not monitor.allowance() and records:
            break
        # (rounds, members, ...) -> (members, ...)
        part = jax.tree.map(lambda leaf, index=index: leaf[index], moves)
        carry, record = programs.run(carry, start, index == 0, part, count)
        records.append(record)
        if monitor is not None:
            monitor.report(_report(found, encoding, problem.score, programs, carry, records))
    record = stack_records(records)
    return _results(found, encoding, problem, settings, programs, carry, record, interval)


def _count_rounds(epochs: int, interval: int) -> int:
    checks.whole("epochs", epochs)
    checks.whole("interval", interval)
    if epochs % interval:
        # The next smaller multiple, or else one interval.
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
    # Given values replace drawn ones, so that all other members stay as they are.
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


def _divisor(members: int, size: int) -> int:
    """Return the largest number of lanes of at most this size that leaves no remainder."""
    # There is one, since 1 divides any number.
    return next(lanes for lanes in range(size, 0, -1) if members % lanes == 0)


def _describe(
    key: RandomKey, space: Space, problem: Problem, start: np.ndarray, moves: Moves
) -> dict[str, Any]:
    """Return the description of a search, by which saved results of another one are recognized."""
    recipe = problem.encoding.recipe
    # The first values and all moves describe the members, so that no trials are given.
    search = describe("population", key, space, recipe, [], problem.task, problem.score)
    rounds, members = moves.parent.shape
    # The epochs of the task are those of a round.
    own = {"interval": search.pop("epochs"), "members": members, "rounds": rounds}
    return search | own | {"trials": members, "points": digest((start, moves))}


def _report(
    space: Space,
    encoding: Encoding,
    score: Score,
    programs: Rounds,
    carry: Carry,
    records: Sequence[Record],
) -> Report:
    """Return the report for a monitor, after a round."""
    last = records[-1]
    members = len(last.parents)
    # (members, interval) -> (members,)
    means = np.asarray(last.figures[score.name][:, -1], float)
    rows = {
        "member": np.arange(members),
        "round": np.full(members, len(records)),
        "parent": last.parents,
        score.name: means,
    }
    for place, (path, axis) in enumerate(zip(space.distributions, encoding.axes, strict=True)):
        rows[path] = np.asarray(axis.decode(last.values[:, place]))
    # A resumed search reads the arrays by these dtypes and shapes.
    figures = {name: [column.dtype.name, *column.shape] for name, column in last.figures.items()}
    return Report(
        score=score,
        done=len(records),
        means=means,
        rows=rows,
        notes={"rounds": len(records), "lanes": programs.size, "figures": figures},
        tree=lambda: {"carry": carry, "records": stack_records(records)},
    )


def _restore(programs: Rounds, start: np.ndarray, saved: Saved) -> tuple[Carry, list[Record]]:
    """Return the members and the records of the rounds that are saved."""
    rounds, members = saved.notes["rounds"], len(start)
    figures = {
        name: np.zeros((rounds, *shape), dtype)
        for name, (dtype, *shape) in saved.notes["figures"].items()
    }
    like = Record(
        values=np.zeros((rounds, *start.shape), np.float32),
        parents=np.zeros((rounds, members), np.int32),
        figures=figures,
    )
    tree = saved.read({"carry": programs.shapes(start), "records": like})
    records = tree["records"]
    return tree["carry"], [
        jax.tree.map(lambda leaf, index=index: leaf[index], records) for index in range(rounds)
    ]


def _results(
    space: Space,
    encoding: Encoding,
    problem: Problem,
    settings: Settings,
    programs: Rounds,
    carry: Carry,
    record: Record,
    interval: int,
) -> Population:
    rounds, members, _ = record.values.shape
    paths = list(space.distributions)
    decoded = [
        # (rounds, members, hyperparameters) -> (rounds, members)
        np.asarray(axis.decode(record.values[..., place]))
        for place, axis in enumerate(encoding.axes)
    ]
    columns = dict(zip(paths, decoded, strict=True))
    # (rounds, members, interval) -> (rounds, members)
    round_scores = np.asarray(record.figures[problem.score.name][..., -1], float)
    # (members,) -> (members, 1), since a population has one seed
    scores = round_scores[-1][:, None]
    expect_finite_score(problem.score, scores)
    drawn = [
        # Numbers of Python, with which a recipe prints as code.
        space.choose({path: column[-1, member].item() for path, column in columns.items()})
        for member in range(members)
    ]
    population = Population(
        space=space,
        recipes=[recipe for recipe, _ in drawn],
        hyperparameters=hyperparameter_columns(space, [values for _, values in drawn]),
        scores=scores,
        # Filled below, when the lines of descent are known.
        histories={},
        epochs=np.full(members, rounds * interval),
        figure=problem.score,
        kept={},
        rounds=columns,
        parents=record.parents,
        round_scores=round_scores,
        interval=interval,
        lanes=programs.size,
    )
    # (members, rounds)
    lines = np.stack([population.lineage(member) for member in range(members)])
    for name, rows in record.figures.items():
        # (rounds, members, interval, ...) -> (members, 1, epochs, ...), along the lines of descent
        along = rows[np.arange(rounds), lines].reshape(members, 1, -1, *rows.shape[3:])
        population.histories[name] = np.asarray(along, float)
    for member in population.ranked[: settings.keep].tolist():
        population.kept[member] = (programs.train_state(carry, member),)
    return population
