"""The program of a population: a round, in which members copy others and all train as lanes.

It also replays a schedule: the hyperparameters of each round are then given, and no member copies.
One program for both makes a replay bitwise equal. The host calls it once for each round, so that
any number of rounds shares one compilation, and the search can be saved between two of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import ConfigError
from fnn.search.lanes import Task, prepare_task, train_epoch
from fnn.search.moves import Encoding, Moves, evolve
from fnn.search.options import Settings
from fnn.search.score import Score, expect_one_number, find_score
from fnn.train.programs import shared
from fnn.train.step import start_on_data
from fnn.types import Data, RandomKey, TrainState


class Problem(NamedTuple):
    """The arguments of the program that do not depend on the round.

    Attributes:
        encoding: Of the space.
        task: The data and the length of a round.
        score: The figure by which members are compared.
    """

    encoding: Encoding
    task: Task
    score: Score


def prepare_problem(
    encoding: Encoding,
    data: Data,
    valid: Data | None,
    settings: Settings,
    interval: int,
    batch_size: int,
) -> Problem:
    """Return the checked arguments; raise an FnnError if they do not fit the recipe.

    Args:
        encoding: Of the space.
        data: (inputs, targets).
        valid: (inputs, targets) for validation, or None.
        settings: The options of the search.
        interval: Epochs of a round.
        batch_size: Examples per step.
    """
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
    expect_one_number("search", score, recipe, task.data)
    return Problem(encoding, task, score)


class Carry(NamedTuple):
    """Members between two rounds.

    Attributes:
        parts: Parameters, state and optimizer state of each member, stacked.
        step: Number of steps, the same for all members.
        values: Encoded hyperparameters, (members, hyperparameters).
        cost: Of the last round, lower is better, inf for diverged members, (members,).
    """

    parts: Any
    step: Any
    values: Any
    cost: Any


class Record(NamedTuple):
    """A round, or several ones with another first axis.

    Attributes:
        values: Encoded hyperparameters, (members, hyperparameters).
        parents: (members,).
        figures: By name, (members, interval, ...).
    """

    values: Any
    parents: Any
    figures: dict[str, Any]


def stack_records(records: Sequence[Record]) -> Record:
    """Return the records of rounds with a first axis of rounds."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *records)


class Rounds:
    """The programs of a population, for one number of lanes.

    Attributes:
        size: Number of members at a time.
    """

    def __init__(
        self,
        problem: Problem,
        size: int,
        key: RandomKey,
    ):
        """Bind the arguments that all rounds have in common.

        Args:
            problem: The encoding, the task and the score.
            size: Number of members at a time.
            key: Key of the runs.
        """
        self.size = size
        self._problem = problem
        self._key = key

    def start(self, values: np.ndarray) -> Carry:
        """Return the members before the first step.

        Args:
            values: Encoded hyperparameters, (members, hyperparameters).
        """
        return self._compiled("start", _start, (values, self._problem.task.data))

    def shapes(self, values: np.ndarray) -> Carry:
        """Return the shapes and dtypes of the members.

        Args:
            values: Encoded hyperparameters, (members, hyperparameters).
        """
        problem = self._problem

        def start(key: RandomKey) -> Carry:
            constants = problem.encoding.constants
            return _start(problem, self.size, constants, key, values, problem.task.data)

        return jax.eval_shape(start, self._key)

    def run(
        self, carry: Carry, values: np.ndarray, is_given: bool, moves: Moves, count: int
    ) -> tuple[Carry, Record]:
        """Train one round.

        Args:
            carry: The members.
            values: Encoded hyperparameters of this round, if they are given.
            is_given: Whether they are, so that no member copies.
            moves: The random choices of the round.
            count: Number of members that copy.

        Returns:
            The members after the round, and its record on the host.
        """
        task, score = self._problem.task, self._problem.score
        # Arrays of NumPy, so that other values compile nothing.
        inputs = values, np.bool_(is_given), moves
        rule = np.int32(count), np.float32(score.sign)
        arguments = carry, inputs, rule, (task.data, task.valid)
        carry, record = self._compiled("round", _run_round, arguments)
        # The next round needs the members alone, so the record leaves the device.
        return carry, jax.tree.map(np.asarray, record)

    def train_state(self, carry: Carry, member: int) -> TrainState:
        """Return the train state of a member.

        Args:
            carry: The members.
            member: Its index.
        """
        parts = jax.tree.map(lambda leaf: leaf[member], carry.parts)
        # A clone, since the train states of all members hold this key.
        return join_state(parts, carry.step, jax.random.clone(self._key))

    def _compiled(
        self,
        name: str,
        function: Any,
        arguments: tuple[Any, ...],
    ) -> Any:
        """Call a function of (problem, size, constants, key, *arguments) as a shared program."""
        problem, size = self._problem, self.size
        encoding, task, score = problem
        given = (encoding.constants, self._key, *arguments)

        def program(constants: list[Any], key: RandomKey, *rest: Any) -> Any:
            return function(problem, size, constants, key, *rest)

        # Shapes and dtypes decide which program it is, and so does the computation.
        leaves, structure = jax.tree.flatten(given)
        signature = tuple((np.shape(leaf), jnp.result_type(leaf).name) for leaf in leaves)
        identity = (encoding.identity, size, task.epochs, task.batch_size, score.name)
        compiled = shared(
            encoding.recipe,
            ("population", name, *identity, signature, structure),
            lambda: jax.jit(program).lower(*given).compile(),
        )
        return compiled(*given)


def _start(
    problem: Problem,
    size: int,
    constants: list[Any],
    key: RandomKey,
    values: Any,
    data: Data,
) -> Carry:
    """Return the members before the first step."""
    encoding = problem.encoding

    def start(values: jax.Array) -> Any:
        train_state = start_on_data(encoding.recipe_of(values, constants), key, data)
        # Step and key are the same for all members, so they are no lanes.
        return train_state[:3]

    parts = map_lanes(start, size)(values)
    # Costs of the first round are not used: its values are given.
    cost = jnp.zeros(len(values), jnp.float32)
    return Carry(parts, jnp.zeros((), jnp.int32), jnp.asarray(values), cost)


def _run_round(
    problem: Problem,
    size: int,
    constants: list[Any],
    key: RandomKey,
    carry: Carry,
    inputs: tuple[jax.Array, jax.Array, Moves],
    rule: tuple[jax.Array, jax.Array],
    examples: tuple[Data, Data | None],
) -> tuple[Carry, Record]:
    """Let members copy and change, and train all of them as lanes."""
    encoding, task, score = problem
    data, valid = examples
    given, is_given, moves = inputs
    # The number of members that copy, and 1 or -1 for a score of which lower or higher is better.
    count, sign = rule
    members = len(given)

    def train(lane: tuple[jax.Array, Any]) -> Any:
        values, parts = lane
        recipe = encoding.recipe_of(values, constants)

        def epoch(train_state: TrainState, _: None) -> tuple[TrainState, Any]:
            return train_epoch(task.batch_size, recipe, train_state, data, valid)

        first = join_state(parts, carry.step, key)
        # A scan, since a round is one program.
        train_state, figures = jax.lax.scan(epoch, first, length=task.epochs)
        return train_state[:3], train_state.step, figures

    parents, changed = evolve(carry.values, carry.cost, moves, count, encoding.ranges)
    # In a replay each member keeps its own weights.
    parents = jnp.where(is_given, jnp.arange(members), parents)
    values = jnp.where(is_given, given, changed)
    # Copying is a gather of the parents' rows.
    parts = jax.tree.map(lambda leaf: leaf[parents], carry.parts)
    parts, steps, figures = map_lanes(train, size)((values, parts))
    # (members, interval) -> (members,)
    scores = sign * figures[score.name][:, -1].astype(jnp.float32)
    # A diverged member is never a parent.
    cost = jnp.where(jnp.isfinite(scores), scores, jnp.inf)
    # All members have taken the same number of steps.
    return Carry(parts, steps[0], values, cost), Record(values, parents, figures)


def map_lanes(function: Callable[[Any], Any], size: int) -> Callable[[Any], Any]:
    """Return the function mapped over a first axis, this number of lanes at a time."""

    def mapped(lanes: Any) -> Any:
        members = len(jax.tree.leaves(lanes)[0])
        # One batch holds all members; a single one needs no vmap.
        if size == members and size > 1:
            return jax.vmap(function)(lanes)
        # None and not 1: the lanes then have no axis of size 1.
        return jax.lax.map(function, lanes, batch_size=None if size == 1 else size)

    return mapped


def join_state(
    parts: tuple[Any, Any, Any],
    step: Any,
    key: RandomKey,
) -> TrainState:
    """Return the train state of (params, state, opt_state)."""
    params, state, opt_state = parts
    return TrainState(
        params,
        state,
        opt_state,
        step,
        key,
    )
