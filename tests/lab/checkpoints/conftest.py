"""A fixture: a process whose children save checkpoints and are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


class Saver:
    """Child processes that save checkpoints, one at a time."""

    def __init__(self, process, acks):
        self.process, self.acks = process, acks

    def start(self, do, directory, **spec):
        """Start a child that runs a function of saver.py; return its pid."""
        self.acks.write_text("")
        line = {"do": do, "directory": str(directory), "acks": str(self.acks)} | spec
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def lines(self):
        """Return the lines that the child has written."""
        return self.acks.read_text().splitlines()

    def wait_for_exit(self):
        """Wait for the child and return its exit code."""
        return int(self.process.stdout.readline())

    def run(self, do, directory, **spec):
        """Run a function of saver.py in a child; return its exit code."""
        self.start(do, directory, **spec)
        return self.wait_for_exit()

    def wait_for_line(self):
        """Wait until the child has written a line."""
        for _ in range(60_000):
            if self.lines():
                return
            time.sleep(0.01)
        raise TimeoutError("the child wrote no line")

    def kill(self, pid):
        os.kill(pid, signal.SIGKILL)
        assert self.wait_for_exit() == -signal.SIGKILL


@pytest.fixture(scope="session")
def saver(tmp_path_factory):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "saver.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        yield Saver(process, tmp_path_factory.mktemp("saver") / "acks")
        process.stdin.close()
