"""One writer at a time, known by name, for as long as it lives and no longer."""

import os
import socket

import numpy as np
import pytest
from saving import is_of, read_quietly, tree_of

from fnn import lab
from fnn.errors import CheckpointLockedError, ConfigError


def test_a_second_process_is_refused_until_the_first_is_killed(saver, tmp_path):
    """The first has a child that lives on, which does not hold the lock."""
    lab.save(tmp_path, tree_of(1), step=1)
    pid = saver.start("hold", tmp_path)
    saver.until_told()
    told = rf"no other writer, got pid {pid} on {socket.gethostname()} since \d{{4}}-\d\d-\d\dT.*; end that one"
    with pytest.raises(CheckpointLockedError, match=told), lab.checkpoint_store(tmp_path):
        pass
    with pytest.raises(CheckpointLockedError, match=told):
        lab.save(tmp_path, tree_of(2), step=2)
    assert is_of(read_quietly(tmp_path), 1)  # to read, no lock is asked
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


def test_a_lock_file_of_any_text_is_no_lock_and_harms_no_message(tmp_path):
    with lab.checkpoint_store(tmp_path):
        for text in (b"", b"\xff" * 5000, b"[]", b'{"pid": 1}'):
            (tmp_path / "LOCK").write_bytes(text)
            with (
                pytest.raises(CheckpointLockedError, match="one who wrote") as caught,
                lab.checkpoint_store(tmp_path),
            ):
                pass
            assert len(str(caught.value)) < 500
    with lab.checkpoint_store(tmp_path):
        pass


def test_no_link_is_followed_to_a_lock(tmp_path):
    (tmp_path / "precious").write_text("text")
    (tmp_path / "LOCK").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="the lock"), lab.checkpoint_store(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "text"


def test_a_store_that_let_go_of_its_lock_saves_nothing(tmp_path):
    with lab.checkpoint_store(tmp_path) as store:
        store.save(1, {"x": np.ones(1)})
    with pytest.raises(ConfigError, match="expected a store that holds its lock"):
        store.save(2, {"x": np.ones(1)})
    assert store.steps() == [1]
