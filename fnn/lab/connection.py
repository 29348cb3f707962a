"""The connection of a process to the others of its run."""

import atexit
import os
import sys
import threading
import time
from types import TracebackType
from typing import Any

import jax

from fnn import checks
from fnn.errors import ConfigError, ProcessError

# Environment variables, which `python -m fnn.lab.launch` sets.
COORDINATOR = "JAX_COORDINATOR_ADDRESS"
COUNT = "JAX_NUM_PROCESSES"
INDEX = "JAX_PROCESS_ID"
LIFELINE = "FNN_LIFELINE"  # a pipe whose other end the launcher has
HEARTBEAT_SECONDS = 10
SHUTDOWN_SECONDS = 300  # JAX's own: processes wait at their end for one that plots or evaluates
# JAX raises this where no cluster is found.
NO_CLUSTER = "coordinator_address should be defined"

_is_alone = False  # whether JAX has found no other process
_has_launcher = LIFELINE in os.environ


def connect(*, heartbeat_seconds: int = HEARTBEAT_SECONDS) -> None:
    """Connect this process to the others of its run, by `jax.distributed`.

    Call it before any other use of JAX, in the first lines of a script. In a script that was
    started alone it does nothing, and may be called again. Otherwise `jax.devices()` are those of
    all processes from then on, and a mesh of them can be given as `mesh=`.

    The processes find each other by the variables that `python -m fnn.lab.launch` sets:
    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID. Without
    them, JAX recognizes Slurm, Open MPI, Kubernetes and Cloud TPU.

    A process that raises an error ends at once, without waiting for the others, which then end too.

    Args:
        heartbeat_seconds: Time without a sign of life after which a process counts as dead, and
            JAX ends the others with a message that names it. JAX's own default is 100.

    Raises:
        ConfigError: A variable is missing or wrong, or JAX has started its devices already.
        ProcessError: The other processes cannot be reached.
    """
    checks.whole("connect heartbeat_seconds", heartbeat_seconds)
    global _is_alone
    if _is_alone or jax.distributed.is_initialized():
        return
    options = _read_variables()
    _end_with_launcher()
    if options and options["num_processes"] == 1:
        return
    try:
        jax.distributed.initialize(
            **options,
            heartbeat_timeout_seconds=heartbeat_seconds,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except ValueError as error:
        if options or NO_CLUSTER not in str(error):
            raise
        # A notebook may run a cell again, when it has used its devices.
        _is_alone = True
        return
    except RuntimeError as error:
        raise _connection_error(error) from error
    _end_on_error(heartbeat_seconds)


def _connection_error(error: RuntimeError) -> Exception:
    reason = str(error).splitlines()[0]
    if "must be called before" in reason:
        return ConfigError(
            "connect",
            "a process that has not used its devices",
            "one that has computed with JAX, or listed its devices",
            "call it in the first lines of the script",
        )
    return ProcessError(
        "connect",
        "an answer of the other processes",
        reason,
        "start all of them, with one address of process 0",
    )


def _read_variables() -> dict[str, Any]:
    """Return the arguments of jax.distributed.initialize that the environment gives, or {}."""
    address, count, index = (os.environ.get(name) for name in (COORDINATOR, COUNT, INDEX))
    if count is None and index is None:
        return {}
    numbers = [text is not None and text.isdecimal() for text in (count, index)]
    is_valid = all(numbers) and int(index or 0) < int(count or 0)
    if not is_valid or not address:
        raise ConfigError(
            "connect",
            f"{COORDINATOR} as host:port, {COUNT}, and {INDEX} below it",
            f"{address}, {count} and {index}",
            "set all three, or start the script by python -m fnn.lab.launch",
        )
    return {
        "coordinator_address": address,
        "num_processes": int(count or 0),
        "process_id": int(index or 0),
    }


def _end_with_launcher() -> None:
    """End this process when the launcher has ended, even if it was killed."""
    text = os.environ.pop(LIFELINE, None)
    if text is None:
        return
    lifeline = int(text)

    def watch() -> None:
        # Nothing is written: reading ends when the other end is closed.
        os.read(lifeline, 1)
        sys.stderr.write("the launcher has ended, and so does this process\n")
        sys.stderr.flush()
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _end_on_error(heartbeat_seconds: int) -> None:
    """End this process without JAX's shutdown after an error that nothing catches.

    The shutdown waits for all processes, and these wait for the numbers of this one.
    """
    previous = sys.excepthook
    failed = threading.Event()

    def report(
        kind: type[BaseException],
        error: BaseException,
        traceback: TracebackType | None,
    ) -> None:
        previous(kind, error, traceback)
        if isinstance(error, jax.errors.JaxRuntimeError) and not _has_launcher:
            # A collective failed. If a process has died, JAX names it and ends this one.
            sys.stderr.write(f"waiting {heartbeat_seconds + 2} s for the name of a dead process\n")
            sys.stderr.flush()
            time.sleep(heartbeat_seconds + 2)
        failed.set()

    def leave() -> None:
        # Functions that were registered later have run, those of JAX have not.
        if failed.is_set():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)

    sys.excepthook = report
    atexit.register(leave)
