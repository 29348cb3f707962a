"""The program of a population: a scan over rounds, in each of which all members train as lanes.

It also replays a schedule: the hyperparameters of each round are then given, and no member copies.
One program for both makes a replay bitwise equal.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.search.lanes import Task, train_epoch
from fnn.search.moves import Encoding, Moves, evolve
from fnn.search.score import Score
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


class Record(NamedTuple):
    """The rounds of the program.

    Attributes:
        values: Encoded hyperparameters, (rounds, members, hyperparameters).
        parents: (rounds, members).
        figures: By name, (rounds, members, interval).
    """

    values: Any
    parents: Any
    figures: dict[str, Any]


def train_rounds(
    problem: Problem,
    size: int,
    key: RandomKey,
    values: np.ndarray,
    is_given: np.ndarray,
    moves: Moves,
    count: int,
) -> tuple[TrainState, Record]:
    """Run the program, and return the stacked train states and the record on the host.

    Args:
        problem: The encoding, the task and the score.
        size: Number of members at a time.
        key: Key of the runs.
        values: Encoded hyperparameters, (rounds, members, hyperparameters), of given rounds.
        is_given: Whether the hyperparameters of a round are given, so that none copies, (rounds,).
        moves: The random choices.
        count: Number of members that copy.
    """
    encoding, task, score = problem
    arguments = (
        encoding.constants,
        key,
        (task.data, task.valid),
        (values, is_given, moves),
        (np.int32(count), np.float32(score.sign)),
    )

    def program(constants: list[Any], key: RandomKey, *rest: Any) -> Any:
        return _run_rounds(
            problem,
            size,
            constants,
            key,
            *rest,
        )

    leaves, structure = jax.tree.flatten(arguments)
    signature = tuple((np.shape(leaf), jnp.result_type(leaf).name) for leaf in leaves)
    identity = ("population", encoding.identity, size, task.epochs, task.batch_size, score.name)
    compiled = shared(
        encoding.recipe,
        (*identity, signature, structure),
        lambda: jax.jit(program).lower(*arguments).compile(),
    )
    states, record = compiled(*arguments)
    return states, jax.tree.map(np.asarray, record)


def _run_rounds(
    problem: Problem,
    size: int,
    constants: list[Any],
    key: RandomKey,
    examples: tuple[Data, Data | None],
    rounds: tuple[jax.Array, jax.Array, Moves],
    rule: tuple[jax.Array, jax.Array],
) -> tuple[TrainState, Record]:
    """The program: a scan over rounds of lanes."""
    encoding, task, score = problem
    data, valid = examples
    values = rounds[0]
    # The number of members that copy, and 1 or -1 for a score of which lower or higher is better.
    count, sign = rule
    members = values.shape[1]

    def start(values: jax.Array) -> Any:
        train_state = start_on_data(encoding.recipe_of(values, constants), key, data)
        # Step and key are the same for all members, so they are no lanes.
        return train_state[:3]

    def train(step: jax.Array, lane: tuple[jax.Array, Any]) -> Any:
        values, parts = lane
        recipe = encoding.recipe_of(values, constants)

        def epoch(train_state: TrainState, _: None) -> tuple[TrainState, Any]:
            return train_epoch(
                task.batch_size,
                recipe,
                train_state,
                data,
                valid,
            )

        first = join_state(parts, step, key)
        train_state, figures = jax.lax.scan(epoch, first, length=task.epochs)
        return train_state[:3], train_state.step, figures

    def run_round(carry: Any, inputs: Any) -> Any:
        parts, step, values, cost = carry
        given, is_given, moves = inputs
        parents, changed = evolve(
            values,
            cost,
            moves,
            count,
            encoding.ranges,
        )
        # In a replay each member keeps its own weights.
        parents = jnp.where(is_given, jnp.arange(members), parents)
        values = jnp.where(is_given, given, changed)
        parts = jax.tree.map(lambda leaf: leaf[parents], parts)
        parts, steps, figures = map_lanes(lambda lane: train(step, lane), size)((values, parts))
        # (members, interval) -> (members,)
        scores = sign * figures[score.name][:, -1].astype(jnp.float32)
        # A diverged member is never a parent.
        cost = jnp.where(jnp.isfinite(scores), scores, jnp.inf)
        # All members have taken the same number of steps.
        return (parts, steps[0], values, cost), Record(values, parents, figures)

    parts = map_lanes(start, size)(values[0])
    first = parts, jnp.zeros((), jnp.int32), values[0], jnp.zeros(members, jnp.float32)
    (parts, step, *_), record = jax.lax.scan(run_round, first, rounds)
    return join_state(parts, step, jax.random.clone(key)), record


def map_lanes(function: Callable[[Any], Any], size: int) -> Callable[[Any], Any]:
    """Return the function mapped over a first axis, this number of lanes at a time."""

    def mapped(lanes: Any) -> Any:
        members = len(jax.tree.leaves(lanes)[0])
        if size == members and size > 1:
            return jax.vmap(function)(lanes)
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
