"""Tests of the lock: one writer at a time, named in the error, released at its end."""

import os
import socket

import numpy as np
import pytest
from saving import is_of, read_quietly, tree_of

from fnn import lab
from fnn.errors import CheckpointLockedError, ConfigError


def test_a_second_process_is_refused_until_the_first_is_killed(saver, tmp_path):
    """The first has a child that continues to run and does not hold the lock."""
    lab.save(tmp_path, tree_of(1), step=1)
    pid = saver.start("hold", tmp_path)
    saver.wait_for_line()
    holder = rf"pid {pid} on {socket.gethostname()} since \d{{4}}-\d\d-\d\dT.*"
    message = f"no other writer, got {holder}; end that one"
    with pytest.raises(CheckpointLockedError, match=message), lab.checkpoint_store(tmp_path):
        pass
    with pytest.raises(CheckpointLockedError, match=message):
        lab.save(tmp_path, tree_of(2), step=2)
    assert is_of(read_quietly(tmp_path), 1)  # reading needs no lock
    saver.kill(pid)
    lab.save(tmp_path, tree_of(2), step=2)
    assert is_of(read_quietly(tmp_path), 2)


def test_a_second_store_in_one_process_is_refused_until_the_first_ends(tmp_path):
    with lab.checkpoint_store(tmp_path):
        for _ in range(2):
            with (
                pytest.raises(CheckpointLockedError, match=f"pid {os.getpid()}"),
                lab.checkpoint_store(tmp_path),
            ):
                pass
    with lab.checkpoint_store(tmp_path):
        pass


def test_any_content_of_the_lock_file_is_handled(tmp_path):
    with lab.checkpoint_store(tmp_path):
        for text in (b"", b"\xff" * 5000, b"[]", b'{"pid": 1}'):
            (tmp_path / "LOCK").write_bytes(text)
            with (
                pytest.raises(CheckpointLockedError, match="a writer with the record") as caught,
                lab.checkpoint_store(tmp_path),
            ):
                pass
            assert len(str(caught.value)) < 500
    with lab.checkpoint_store(tmp_path):
        pass


def test_a_link_in_place_of_the_lock_file_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("text")
    (tmp_path / "LOCK").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="the lock"), lab.checkpoint_store(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "text"


def test_a_closed_store_does_not_save(tmp_path):
    with lab.checkpoint_store(tmp_path) as store:
        store.save(1, {"x": np.ones(1)})
    with pytest.raises(ConfigError, match="expected a store that holds its lock"):
        store.save(2, {"x": np.ones(1)})
    assert store.steps() == [1]
