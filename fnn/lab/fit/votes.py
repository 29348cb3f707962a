"""Decisions of the training loop that the processes of a run take together.

Clocks, signals and callbacks differ between processes. All of them must launch the same steps, and
stop and save at the same one.
"""

from typing import Any, NamedTuple

import jax

from fnn.errors import ConfigError
from fnn.lab.logs.log import Log
from fnn.train.layout import Layout
from fnn.train.processes import exchange, spans_processes
from fnn.types import TrainState

PROCESSES = "processes"  # in a checkpoint: positions of the data of each process


class Votes(NamedTuple):
    """The state of one process between two segments, or of all of them.

    Attributes:
        signal: Number of the signal that was received, or 0.
        callback_stops: Whether a callback ended the run.
        seconds: Seconds since the start, of the first process.
        chunk: Steps of the next segment, of the first process.
        is_overdue: Whether the first process is to save by the clock.
    """

    signal: int
    callback_stops: bool
    seconds: float
    chunk: int
    is_overdue: bool


def count_votes(layout: Layout | None, step: int, own: Votes) -> Votes:
    """Return the votes of all processes as one.

    Args:
        layout: The devices of the run.
        step: Number of steps done.
        own: The votes of this process.

    Raises:
        ProcessError: Another process has failed.
    """
    if not spans_processes(layout):
        return own
    every = [Votes(*votes) for votes in exchange("fit", list(own), {"step": step})]
    first = every[0]
    return first._replace(
        signal=max(votes.signal for votes in every),
        callback_stops=any(votes.callback_stops for votes in every),
    )


def silent_log(log: Log) -> Log:
    """Return a log that writes nothing, for the processes besides the first.

    It uses the states that the log uses, so that all processes run the same segments.
    """

    def ignore(step: int, train_state: Any) -> None:
        return

    return Log(on_state=ignore) if log.uses_states else Log()


def join_positions(layout: Layout | None, step: int, position: dict[str, Any]) -> dict[str, Any]:
    """Return the positions of the data of all processes as one, for a checkpoint.

    Args:
        layout: The devices of the run.
        step: Number of steps done.
        position: That of the data of this process.
    """
    if not spans_processes(layout):
        return position
    every = exchange("save", position, {"step": step})
    # Arrays, and streams of loaders without a position, are at the same one.
    return position if every.count(position) == len(every) else {PROCESSES: every}


def is_whole(train_state: TrainState, position: dict[str, Any]) -> bool:
    """Return whether this process alone has all that a checkpoint needs.

    Args:
        train_state: The train state.
        position: That of the data of this process.
    """
    # The loader of each process has a position of its own.
    if "state" in position:
        return False
    return all(leaf.is_fully_replicated for leaf in jax.tree.leaves(train_state))


def own_position(layout: Layout | None, position: dict[str, Any]) -> dict[str, Any]:
    """Return the position of the data of this process, of those in a checkpoint.

    Args:
        layout: The devices of the run.
        position: As `join_positions` returned it.

    Raises:
        ConfigError: It has those of another number of processes.
    """
    every = position.get(PROCESSES)
    if every is None:
        return position
    count = jax.process_count() if spans_processes(layout) else 1
    if not isinstance(every, list) or len(every) != count:
        saved = len(every) if isinstance(every, list) else every
        raise ConfigError(
            "resume",
            f"a stream in {saved} parts, each with the position of its loader, as in the saved run",
            f"{count} processes",
            f"resume on {saved} processes, or take resume=train_state of the checkpoint",
        )
    own: dict[str, Any] = every[jax.process_index()]
    return own
