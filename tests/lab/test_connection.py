"""The connection of a process to the others of its run."""

import jax
import pytest

from fnn import lab
from fnn.errors import ConfigError
from fnn.lab import connection

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


def test_a_script_that_was_started_alone_is_not_connected(variables):
    variables(None, None, None)
    lab.connect()
    variables("127.0.0.1:1", "1", "0")
    lab.connect()
    assert not jax.distributed.is_initialized()


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
