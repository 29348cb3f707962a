"""Agreement of the processes whose devices compute a run together.

All of them must run the same programs in the same order: a process that computes another program,
or none, leaves the others waiting for its numbers. So the processes compare facts before a program
starts, and an error on one of them is raised on all. The facts pass through the coordination
service of jax.distributed, which takes no device and works while programs are running.
"""

import itertools
import json
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import jax
from jax.experimental import multihost_utils

from fnn.errors import ProcessError
from fnn.train.layout import Layout

POLL_MILLISECONDS = 1000  # between two moments at which signals are handled
PATIENT_POLLS = 30  # before a warning that names the process that is missing
MAX_POLLS = 3600  # before an error
CONFIRM_MILLISECONDS = 3000
MAX_SHOWN = 300  # characters of a fact in a message
ERROR = "error"  # in place of facts: the text of an error
ANNOUNCED = "is_announced"  # attribute of an error that the other processes know
_numbers = itertools.count()  # of exchanges


class Agreement:
    """Facts of this process on a call, and those of all processes once they were compared.

    Attributes:
        facts: Values that must be equal on all processes, by name.
        own: Values that may differ, by name.
        every: The values `own` of each process.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.own: dict[str, Any] = {}
        self.every: list[dict[str, Any]] = []


def spans_processes(layout: Layout | None) -> bool:
    """Return whether the devices of a layout belong to several processes."""
    return layout is not None and layout.mesh.is_multi_process


def is_writer(layout: Layout | None) -> bool:
    """Return whether this process writes the files and the output of a run: the first one does."""
    return not spans_processes(layout) or jax.process_index() == 0


def agreement(where: str, layout: Layout | None) -> AbstractContextManager[Agreement]:
    """Return a context that compares what its block collects with the processes of a layout.

    On one process it does nothing.

    Args:
        where: Name of the call. All processes must be in the same one.
        layout: The devices that compute it.

    Raises:
        ProcessError: A fact differs, or the block failed on another process.
    """
    return _agree(where) if spans_processes(layout) else _ALONE


_ALONE = nullcontext(Agreement())  # made once, since small networks are evaluated in microseconds


@contextmanager
def _agree(where: str) -> Iterator[Agreement]:
    agreed = Agreement()
    try:
        yield agreed
    except Exception as error:
        announce(where, error)
        raise
    agreed.every = exchange(where, agreed.own, agreed.facts)


def exchange(where: str, own: Any, facts: dict[str, Any]) -> list[Any]:
    """Return the values of all processes; raise an error on all of them if a fact differs.

    Args:
        where: Name of the call. All processes must be in the same one.
        own: Values of this process, as JSON can hold them.
        facts: Values that must be equal on all processes, by name.

    Raises:
        ProcessError: A fact differs, or another process has announced an error.
    """
    number = next(_numbers)
    every = _gather(where, number, {"where": where, "own": own, "facts": facts})
    try:
        for process, other in enumerate(every):
            _expect_success(process, other)
            _expect_same(where, every[0], other, process)
    except ProcessError:
        _confirm(number)
        raise
    return [other["own"] for other in every]


def announce(where: str, error: BaseException) -> None:
    """Pass an error of this process on to the others, which are or will be at an exchange.

    Args:
        where: Name of the call that failed.
        error: The error. It is announced once, and not at all if it came from there.
    """
    if isinstance(error, ProcessError) or is_announced(error):
        return
    note_announced(error)
    number = next(_numbers)
    value = {"where": where, ERROR: f"{type(error).__name__}: {error}"}
    process = jax.process_index()
    # Without waiting: others may be in a program that waits for this process.
    if process > 0:
        _client().key_value_set(f"fnn/{number}/{process}", json.dumps(value))
        return
    # The others find their own values here as well.
    every = [value] * jax.process_count()
    _client().key_value_set(f"fnn/{number}/all", json.dumps(every))
    _confirm(number)


def is_announced(error: BaseException) -> bool:
    """Return whether the other processes know of an error."""
    return ANNOUNCED in vars(error)


def note_announced(error: BaseException) -> None:
    """Note that the other processes know of an error, as of one that all of them raise."""
    vars(error)[ANNOUNCED] = True


def _expect_success(process: int, other: dict[str, Any]) -> None:
    """Raise ProcessError if a process has announced an error."""
    if ERROR in other:
        raise ProcessError(
            f"{other['where']} on process {process}",
            "success on all processes",
            other[ERROR],
            "correct it there",
        )


def _expect_same(where: str, first: dict[str, Any], other: dict[str, Any], process: int) -> None:
    """Raise ProcessError at the first fact of a process that differs from the first process."""
    if other["where"] != first["where"]:
        raise ProcessError(
            where,
            "the same call on all processes",
            f"{first['where']} on process 0, {other['where']} on process {process}",
            "call it on every process, not on one alone",
        )
    # Both have the names of one call; where a name is missing, the code differs.
    for name in first["facts"] | other["facts"]:
        values = [facts["facts"].get(name) for facts in (first, other)]
        if values[0] != values[1]:
            one, another = map(_show, _first_difference(*values))
            raise ProcessError(
                f"{where} {name}",
                "the same on all processes",
                f"{one} on process 0, {another} on process {process}",
                "start all of them with the same code, data and arguments",
            )


def _first_difference(first: Any, other: Any) -> tuple[Any, Any]:
    """Return two values, of texts the first lines that differ."""
    if isinstance(first, str) and isinstance(other, str):
        for pair in itertools.zip_longest(first.splitlines(), other.splitlines(), fillvalue=""):
            if pair[0] != pair[1]:
                return pair
    return first, other


def _show(value: Any) -> str:
    text = str(value).strip()
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _client() -> Any:
    """Return the client of the coordination service."""
    # JAX has no function for its key-value store. This module has had the client since 2022.
    service: Any = multihost_utils
    return service.distributed.global_state.client


def _gather(where: str, number: int, value: Any) -> list[dict[str, Any]]:
    """Return the values of all processes, in their order."""
    process = jax.process_index()
    text = json.dumps(value)
    # The first process collects, so that the number of messages grows as that of processes.
    if process > 0:
        _client().key_value_set(f"fnn/{number}/{process}", text)
        found: list[dict[str, Any]] = json.loads(_wait(where, f"fnn/{number}/all", 0))
        return found
    others = range(1, jax.process_count())
    texts = [text] + [_wait(where, f"fnn/{number}/{other}", other) for other in others]
    _client().key_value_set(f"fnn/{number}/all", f"[{','.join(texts)}]")
    # All have read the values of the exchange before, since they are at this one.
    _client().key_value_delete(f"fnn/{number - 1}/")
    return [json.loads(text) for text in texts]


def _confirm(number: int) -> None:
    """Let the others read an error before the first process, which runs the service, ends."""
    process = jax.process_index()
    if process > 0:
        _client().key_value_set(f"fnn/{number}/read/{process}", "")
        return
    patience = CONFIRM_MILLISECONDS
    for other in range(1, jax.process_count()):
        try:
            _client().blocking_key_value_get(f"fnn/{number}/read/{other}", patience)
        except jax.errors.JaxRuntimeError:
            # It has failed as well, or computes. All others have had the same time.
            patience = 1


def _wait(where: str, key: str, process: int) -> str:
    """Wait for a value of another process.

    jax.distributed ends this process if the other one has died.
    """
    for poll in range(MAX_POLLS):
        try:
            text: str = _client().blocking_key_value_get(key, POLL_MILLISECONDS)
            return text
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise _lost(where, process, "a closed connection") from error
        if poll == PATIENT_POLLS:
            warnings.warn(
                f"{where}: waits for process {process}, which has not come to this call; every "
                "process must make the same calls",
                stacklevel=3,
            )
    raise _lost(where, process, f"none in {MAX_POLLS} s")


def _lost(where: str, process: int, got: str) -> ProcessError:
    return ProcessError(
        where,
        f"an answer of process {process}",
        got,
        "read the output of that process for the cause",
    )


@contextmanager
def announced(where: str, layout: Layout | None) -> Iterator[None]:
    """Announce an error of the block to the other processes of a layout, if there are any.

    Args:
        where: Name of the call.
        layout: The devices that compute it.
    """
    try:
        yield
    except BaseException as error:
        # Also an exit, after which the others would wait.
        if spans_processes(layout):
            announce(where, error)
        raise
