"""The connection of a process to the others of its run."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from fnn import lab
from fnn.errors import ConfigError
from fnn.lab import connection

ROOT = Path(__file__).parent.parent.parent
NAMES = (connection.COORDINATOR, connection.COUNT, connection.INDEX)


@pytest.fixture
def variables(monkeypatch):
    """Set the three variables; None removes one."""

    def set_all(*values):
        for name, value in zip(NAMES, values, strict=True):
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    return set_all


def test_one_process_is_not_connected(variables):
    variables("127.0.0.1:1", "1", "0")
    lab.connect()
    assert not jax.distributed.is_initialized()


@pytest.mark.slow
def test_a_script_that_was_started_alone_is_not_connected():
    code = (
        "from fnn import lab\n"
        "lab.connect()\n"
        "import jax\n"
        "jax.devices()\n"
        "lab.connect()\n"
        "assert not jax.distributed.is_initialized()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize(
    "values",
    [
        ("127.0.0.1:1", "2", None),
        ("127.0.0.1:1", None, "0"),
        (None, "2", "0"),
        ("127.0.0.1:1", "2", "2"),
        ("127.0.0.1:1", "2", "-1"),
        ("127.0.0.1:1", "two", "0"),
    ],
)
def test_missing_and_wrong_variables_raise(variables, values):
    variables(*values)
    with pytest.raises(ConfigError, match="connect: expected JAX_COORDINATOR_ADDRESS as host:port"):
        lab.connect()


def test_a_process_that_has_computed_already_raises(variables):
    jax.devices()
    variables("127.0.0.1:1", "2", "0")
    with pytest.raises(ConfigError, match="connect: expected a process that has not used its"):
        lab.connect()


def test_a_wrong_heartbeat_raises():
    with pytest.raises(ConfigError, match="connect heartbeat_seconds"):
        lab.connect(heartbeat_seconds=0)


@pytest.mark.slow
def test_a_killed_process_is_named_without_the_launcher(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from fnn import lab\n"
        "lab.connect(heartbeat_seconds=5)\n"
        "import jax\n"
        "print(jax.device_count(), flush=True)\n"
        "time.sleep(60)\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "2",
        "PYTHONPATH": str(ROOT),
        connection.COORDINATOR: f"127.0.0.1:{port}",
        connection.COUNT: "2",
    }
    del common["XLA_FLAGS"]
    started = []
    for index in range(2):
        process = subprocess.Popen(
            [sys.executable, str(script)],
            env=common | {connection.INDEX: str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
    first, second = started
    # Both have found each other.
    assert [process.stdout.readline() for process in started] == ["4\n", "4\n"]
    second.kill()
    began = time.monotonic()
    _, err = first.communicate()
    second.communicate()
    assert time.monotonic() - began < 15
    assert first.returncode != 0
    assert "stopped sending heartbeats):\n1\n" in err
