"""Start the processes of a run on this machine: `python -m fnn.lab.launch -n 2 train.py`."""

import argparse
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import IO, NamedTuple

from fnn.lab.connection import COORDINATOR, COUNT, INDEX, LIFELINE

POLL_SECONDS = 0.05
STOPPED_SECONDS = 7.0  # after which a stopped process counts as failed
# After a failure, first the others may end with messages of their own.
OWN_END_SECONDS = 2.0
TERMINATE_SECONDS = 3.0  # between SIGTERM and SIGKILL
SIGNALED_SECONDS = 30.0  # for the end of all, after a signal that was passed on
MAX_SIGNALS = 2  # that are passed on; the next one kills


@dataclass(frozen=True, eq=False)
class Worker:
    """A process of the run.

    Attributes:
        index: Its number in the run.
        process: The process.
        threads: They copy its output.
    """

    index: int
    process: subprocess.Popen[bytes]
    threads: list[threading.Thread]


class Failure(NamedTuple):
    """The end of a process that ends the run.

    Attributes:
        worker: The process.
        text: How it ended.
        code: Exit code of the launcher.
        rank: Order among failures that are found at the same time: killed processes are the cause
            of the errors of others.
    """

    worker: Worker
    text: str
    code: int
    rank: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a script in several processes, and return its exit code.

    Args:
        arguments: Of the command line, by default those of this process.
    """
    options = _parse(arguments)
    run = Run(options.processes)
    with suppress(ValueError):  # in another thread than the main one
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, run.pass_on)
    command = [sys.executable, *(["-m"] if options.module else []), options.script]
    run.start([*command, *options.arguments], options.cpu_devices)
    return run.wait()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fnn.lab.launch",
        description="Run a script in several processes of this machine, which lab.connect() "
        "connects. If one fails or is killed, all are ended.",
    )
    parser.add_argument("-n", "--processes", type=_whole, required=True, help="number of processes")
    parser.add_argument(
        "--cpu-devices",
        type=_whole,
        help="simulate this number of devices in each process, on the CPU; by default each process "
        "has one accelerator of this machine",
    )
    parser.add_argument("-m", "--module", action="store_true", help="the script is a module")
    parser.add_argument("script", help="a Python script, which calls lab.connect() first")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the script")
    return parser.parse_args(arguments)


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, got {text}")
    return number


class Run:
    """The processes of a run.

    Args:
        processes: Their number.
    """

    def __init__(self, processes: int):
        self._count = processes
        self._workers: list[Worker] = []
        self._stopped: dict[int, float] = {}  # since when, by index
        self._signals: list[int] = []
        # Closed by the system when the launcher ends, however it ends.
        self._lifeline = os.pipe()

    def start(self, command: Sequence[str], cpu_devices: int | None) -> None:
        """Start all processes.

        Args:
            command: The command of each of them.
            cpu_devices: Number of simulated devices of each, or None for accelerators.
        """
        address = f"127.0.0.1:{_free_port()}"
        for index in range(self._count):
            environment = os.environ | {
                COORDINATOR: address,
                COUNT: str(self._count),
                INDEX: str(index),
                LIFELINE: str(self._lifeline[0]),
            }
            if cpu_devices is None:
                environment.setdefault("JAX_LOCAL_DEVICE_IDS", str(index))
            else:
                environment |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(cpu_devices)}
            # The first process has the terminal, for its progress bar.
            is_first = index == 0
            process = subprocess.Popen(
                command,
                env=environment if is_first else environment | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=None if is_first else subprocess.PIPE,
                stderr=None if is_first else subprocess.PIPE,
                pass_fds=[self._lifeline[0]],
                # Ctrl-C reaches the launcher alone, which passes it on once.
                start_new_session=True,
            )
            copies = [(process.stdout, sys.stdout), (process.stderr, sys.stderr)]
            threads = [_copy(index, source, target) for source, target in copies if source]
            self._workers.append(Worker(index, process, threads))

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on to all processes; after two of them, kill these."""
        self._signals.append(number)
        self._send(number if len(self._signals) <= MAX_SIGNALS else signal.SIGKILL)

    def wait(self) -> int:
        """Wait for all processes, and end them when one fails. Return the exit code."""
        failure = None
        while failure is None and self._alive():
            time.sleep(POLL_SECONDS)
            found = self._failures()
            failure = min(found, key=_rank, default=None)
            if failure is not None and failure.rank > 0:
                # JAX has ended a process since it had no sign of life from a stopped one.
                failure = min(self._stopped_workers(0.0), key=_rank, default=failure)
        if failure is None:
            self._finish()
            return 0
        if self._signals:
            # The others may still save what they have.
            self._wait_for(SIGNALED_SECONDS)
        others = [worker.index for worker in self._alive() if worker != failure.worker]
        name = f"process {failure.worker.index} (pid {failure.worker.process.pid})"
        ending = f"; ending {_list(others)}" if others else ""
        _print(f"{name} {failure.text}{ending}")
        self._end(failure.worker)
        return failure.code

    def _failures(self) -> list[Failure]:
        """Return the failures since the last call."""
        found = []
        for worker in self._alive():
            state = _poll(worker.process)
            if state == "stopped":
                self._stopped.setdefault(worker.index, time.monotonic())
            elif state == "continued":
                self._stopped.pop(worker.index, None)
            code = worker.process.returncode
            if code is not None and code < 0:
                name = signal.Signals(-code).name
                # JAX aborts a process if another one has died.
                rank = 1 if -code == signal.SIGABRT else 0
                found.append(Failure(worker, f"was killed by {name}", 128 - code, rank))
            elif code:
                found.append(Failure(worker, f"ended with code {code}", code, 2))
        return found + self._stopped_workers(STOPPED_SECONDS)

    def _stopped_workers(self, seconds: float) -> list[Failure]:
        """Return the processes that have been stopped for longer than some seconds."""
        found = []
        for worker in self._alive():
            began = self._stopped.get(worker.index, math.inf)
            if time.monotonic() - began > seconds:
                found.append(Failure(worker, "was stopped by a signal, as by SIGSTOP", 1, 0))
        return found

    def _end(self, failed: Worker) -> None:
        """End all processes, those that do not end themselves by SIGTERM and then SIGKILL."""
        if failed.process.returncode is None:
            failed.process.kill()
        self._wait_for(OWN_END_SECONDS)
        self._send(signal.SIGTERM)
        self._wait_for(TERMINATE_SECONDS)
        self._send(signal.SIGKILL)
        self._finish()

    def _finish(self) -> None:
        """Wait for all processes and for their output."""
        for worker in self._workers:
            worker.process.wait()
            for thread in worker.threads:
                # A process that a worker has left behind may hold the pipe.
                thread.join(timeout=1.0)
        for end in self._lifeline:
            os.close(end)

    def _wait_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._alive() and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
            for worker in self._alive():
                _poll(worker.process)

    def _alive(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.process.returncode is None]

    def _send(self, number: int) -> None:
        for worker in self._alive():
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid, number)


def _rank(failure: Failure) -> int:
    return failure.rank


def _poll(process: subprocess.Popen[bytes]) -> str:
    """Note the end of a process; return "stopped" or "continued" if that happened, else ""."""
    try:
        found, status = os.waitpid(process.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
    except ChildProcessError:
        process.poll()
        return ""
    if found == 0:
        return ""
    if os.WIFSTOPPED(status):
        return "stopped"
    if os.WIFCONTINUED(status):
        return "continued"
    process.returncode = os.waitstatus_to_exitcode(status)
    return ""


def _copy(index: int, source: IO[bytes], target: IO[str]) -> threading.Thread:
    """Copy the lines of a process to an output, with its number before each."""

    def copy() -> None:
        with source:
            for line in source:
                text = line.decode(errors="replace").removesuffix("\n")
                target.write(f"[{index}] {text}\n")
                target.flush()

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _list(indices: list[int]) -> str:
    noun = "process" if len(indices) == 1 else "processes"
    return f"{noun} {', '.join(map(str, indices))}"


def _print(text: str) -> None:
    sys.stderr.write(f"launch: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
