"""Tests of the store: pruning, cleaning after a crash, and asynchronous saving."""

import errno
import os
import shutil
import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from saving import folder_of, is_clean, is_of, members_of, read_quietly, tree_of

from fnn import lab
from fnn.errors import CheckpointCorruptError, ConfigError, WriteError

both = pytest.mark.parametrize("asynchronous", [False, True])


@both
def test_every_leaf_is_restored_bit_for_bit(asynchronous, tmp_path):
    tree = {
        "f32": jnp.array([1.5, -0.0, jnp.nan, jnp.inf]),
        "bf16": jnp.arange(5, dtype=jnp.bfloat16),
        "f8": jnp.array([0.5, 448], jnp.float8_e4m3fn),
        "i4": jnp.array([-8, 7], jnp.int4),
        "f64": np.array([1e300]),
        "c64": jnp.array([1 + 2j], jnp.complex64),
        "bool": jnp.array([True, False]),
        "empty": jnp.zeros((0, 3)),
        "scalar": jnp.int32(7),
        "numpy scalar": np.float64(0.1),
        "strided": np.arange(12).reshape(3, 4).T[::2],
        "big endian": np.arange(3, dtype=">i4"),
        "python": (1, 2.5, True),
        "key": jax.random.key(5),
        "keys": jax.random.split(jax.random.key(6, impl="rbg"), 3),
    }
    with lab.checkpoint_store(tmp_path, asynchronous=asynchronous) as store:
        store.save(1, tree)
    back = lab.restore(tmp_path, tree)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for saved, found in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True):
        assert type(saved) is type(found) or isinstance(saved, np.generic)
        if hasattr(saved, "dtype") and jnp.issubdtype(saved.dtype, jax.dtypes.prng_key):
            assert saved.dtype == found.dtype
            saved, found = jax.random.key_data(saved), jax.random.key_data(found)
        saved, found = np.asarray(saved), np.asarray(found)
        assert found.dtype == saved.dtype.newbyteorder("=") and found.shape == saved.shape
        assert found.tobytes() == saved.astype(found.dtype).tobytes()


def test_a_key_may_be_used_after_saving_and_after_each_restore(tmp_path):
    key = jax.random.key(3)
    lab.save(tmp_path, {"key": key})
    drawn = jax.random.normal(key)
    checkpoint = lab.read(tmp_path)
    for _ in range(2):
        restored = lab.restore(checkpoint, {"key": jax.random.key(0)})
        assert jax.random.normal(restored["key"]) == drawn


# Pruning.


@both
def test_the_last_and_the_best_are_kept(asynchronous, tmp_path):
    with lab.checkpoint_store(tmp_path, keep=2, asynchronous=asynchronous) as store:
        for step, score in enumerate([0.9, 0.2, 0.2, None, 0.5, 0.8]):
            store.save(step, tree_of(step), score=score)
        store.wait()
        assert store.steps() == [1, 4, 5] and is_clean(tmp_path)
    with lab.checkpoint_store(tmp_path, keep=1) as store:  # the scores are read again
        store.save(6, tree_of(6), score=0.1)
        assert store.steps() == [6]
        store.save(7, tree_of(7))
        assert store.steps() == [6, 7] and is_of(lab.read(tmp_path, step="best"), 6)


def test_step_0_may_be_the_best(tmp_path):
    with lab.checkpoint_store(tmp_path, keep=1) as store:
        for step in range(3):
            store.save(step, tree_of(step), score=float(step))
        assert store.steps() == [0, 2]


def test_all_are_kept_if_keep_is_none(tmp_path):
    with lab.checkpoint_store(tmp_path, keep=None) as store:
        for step in range(5):
            store.save(step, tree_of(step))
        assert store.steps() == [0, 1, 2, 3, 4]


def test_steps_are_ordered_by_number(tmp_path):
    with lab.checkpoint_store(tmp_path, keep=None) as store:
        for step in (5, 999_999_999, 1_000_000_000, 10**12):
            store.save(step, tree_of(3))
        assert store.steps() == [5, 999_999_999, 1_000_000_000, 10**12]
    assert read_quietly(tmp_path).step == 10**12


def test_a_step_may_be_an_array_and_may_be_replaced(tmp_path):
    with lab.checkpoint_store(tmp_path) as store:
        store.save(jnp.int32(4), tree_of(4))
        store.save(np.int64(4), tree_of(40), notes={"again": True})
    checkpoint = read_quietly(tmp_path)
    assert is_of(checkpoint, 40) and checkpoint.notes == {"again": True} and is_clean(tmp_path)


def test_a_step_before_a_valid_one_raises_and_before_a_corrupt_one_does_not(tmp_path):
    """Otherwise a later step of another run would be taken for the latest of this one."""
    with lab.checkpoint_store(tmp_path, keep=1) as store:
        store.save(10, tree_of(10))
        with pytest.raises(
            ConfigError, match="step: expected one from 10 on, the latest saved, got 5"
        ):
            store.save(5, tree_of(5))
        (folder_of(tmp_path, 10) / "data.bin").write_bytes(b"")
        store.save(5, tree_of(5))
        store.save(6, tree_of(6))
        assert store.steps() == [6, 10]
    with pytest.warns(UserWarning, match="corrupt: step_000000010"):
        assert is_of(lab.read(tmp_path), 6)
    lab.save(tmp_path, tree_of(10), step=10)
    assert is_of(read_quietly(tmp_path), 10)


def test_only_leftovers_of_a_crash_are_removed_and_no_link_is_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("text")
    run = tmp_path / "run"
    lab.save(run, tree_of(1), step=1)
    shutil.copytree(folder_of(run, 1), run / "step_000000001.replaced")
    shutil.copytree(folder_of(run, 1), run / "step_000000003.removed")
    (run / "step_000000002.partial").symlink_to(precious)
    (run / "step_000000004.partial").write_text("")
    for name in ("mine", "step_1.partial", "step_000000001.partial.txt"):
        (run / name).mkdir()
    with lab.checkpoint_store(run) as store:
        assert store.steps() == [1]
    left = {path.name for path in run.iterdir()}
    assert left == {
        "LOCK",
        "step_000000001",
        "mine",
        "step_1.partial",
        "step_000000001.partial.txt",
    }
    assert (precious / "file").read_text() == "text"


def test_a_folder_that_was_to_be_replaced_is_read_and_restored(tmp_path):
    lab.save(tmp_path, tree_of(1), step=1)
    folder_of(tmp_path, 1).rename(tmp_path / "step_000000001.replaced")
    assert is_of(read_quietly(tmp_path), 1)
    with lab.checkpoint_store(tmp_path) as store:
        assert store.steps() == [1] and is_clean(tmp_path)


def test_versions_are_saved_and_no_path_of_this_machine(tmp_path):
    lab.save(tmp_path, {"x": np.ones(2)})
    members = members_of(folder_of(tmp_path, 0))
    assert members["made_by"]["jax"] == jax.__version__ and members["made_by"].keys() == {
        "fnn",
        "jax",
    }
    assert members["leaves"][0].keys() == {"path", "shape", "dtype", "offset", "sha256"}


def test_the_clock_may_jump(tmp_path, monkeypatch):
    with lab.checkpoint_store(tmp_path) as store:
        for step, now in enumerate([1e9, 0.0, 2e9, -1e9]):
            monkeypatch.setattr("time.time", lambda now=now: now)
            store.save(step, tree_of(step))
        assert store.steps() == [1, 2, 3] and is_of(read_quietly(tmp_path), 3)


@pytest.mark.slow
def test_a_reader_finds_complete_checkpoints_while_another_thread_writes(tmp_path):
    lab.save(tmp_path, tree_of(0))
    done = threading.Event()

    def write():
        with lab.checkpoint_store(tmp_path, keep=1) as store:
            for step in range(1, 200):
                store.save(step, tree_of(step))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    read = []
    while not done.is_set():
        checkpoint = read_quietly(tmp_path)
        assert is_of(checkpoint, checkpoint.step)
        read.append(checkpoint.step)
    writer.join()
    assert read == sorted(read) and len(set(read)) > 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0}, "keep: expected >= 1, got 0"),
        ({"keep": 1.5}, "keep: expected a whole number, got 1.5"),
        ({"asynchronous": "yes"}, "asynchronous: expected True or False, got 'yes'"),
        ({"directory": 3}, "directory: expected a path, got int"),
    ],
)
def test_a_wrong_option_raises_before_the_directory_is_made(options, message, tmp_path):
    with (
        pytest.raises(ConfigError, match=message),
        lab.checkpoint_store(**{"directory": tmp_path / "run"} | options),
    ):
        pass
    assert not (tmp_path / "run").exists()


def test_a_file_in_place_of_the_directory_raises(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        WriteError, match=r"a directory in .*file: expected a directory to write in"
    ):
        lab.save(tmp_path / "file", {})
    with pytest.raises(WriteError, match="a directory in"):
        lab.save(tmp_path / "file" / "below", {})


def test_an_array_without_values_raises(tmp_path):
    deleted = jnp.ones(3)
    deleted.delete()
    with pytest.raises(ConfigError, match="tree x: expected an array with values, got one donated"):
        lab.save(tmp_path, {"x": deleted})
    with pytest.raises(
        ConfigError, match="tree x: expected an array with values, got a traced one"
    ):
        jax.jit(lambda x: lab.save(tmp_path, {"x": x}))(jnp.ones(3))


# Asynchronous saving.


@pytest.fixture
def gate(monkeypatch):
    """An event that every write of the other thread waits for."""
    opened, write = threading.Event(), os.write

    def waiting(descriptor, data):
        assert threading.current_thread() is threading.main_thread() or opened.wait(60)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", waiting)
    return opened


def test_changes_after_an_asynchronous_save_do_not_reach_the_file(gate, tmp_path):
    """Buffers are refilled, donated and deleted while the thread still writes."""
    loader = np.arange(1000.0)
    donated, deleted, plain = jnp.arange(1000.0), jnp.arange(1000.0), jnp.arange(1000.0)
    aliased = np.asarray(plain)
    with lab.checkpoint_store(tmp_path, asynchronous=True) as store:
        store.save(
            1, {"loader": loader, "donated": donated, "deleted": deleted, "view": aliased[1:]}
        )
        loader[:] = -1
        deleted.delete()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where donation does nothing
            jax.jit(lambda x: x * 0 - 1, donate_argnums=0)(donated).block_until_ready()
        assert store.steps() == []
        gate.set()
    leaves = lab.read(tmp_path).leaves
    for name in ("loader", "donated", "deleted"):
        np.testing.assert_array_equal(leaves[name], np.arange(1000.0))
    np.testing.assert_array_equal(leaves["view"], np.arange(1.0, 1000))


def test_at_most_one_save_is_in_progress(gate, tmp_path):
    with lab.checkpoint_store(tmp_path, asynchronous=True) as store:
        store.save(1, tree_of(1))
        second = threading.Thread(target=store.save, args=(2, tree_of(2)))
        second.start()
        second.join(0.2)
        assert second.is_alive() and store.steps() == []
        gate.set()
        second.join()
        store.wait()
        assert store.steps() == [1, 2]


@pytest.fixture
def full(monkeypatch):
    """A function that makes the disk of the other thread full, or not."""
    write = os.write

    def no_room(descriptor, data):
        if threading.current_thread() is threading.main_thread():
            return write(descriptor, data)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda on: monkeypatch.setattr(os, "write", no_room if on else write)


def test_an_error_of_the_thread_is_raised_once_by_the_next_save_or_wait(full, tmp_path):
    with lab.checkpoint_store(tmp_path, asynchronous=True) as store:
        store.save(1, tree_of(1))
        store.wait()
        full(True)
        for ask in (lambda: store.save(3, tree_of(3)), store.wait):
            store.save(2, tree_of(2))
            with pytest.raises(
                WriteError,
                match=r"step_000000002 .*room for 1225 bytes, got No space left",
            ):
                ask()
            store.wait()
            assert store.steps() == [1] and is_clean(tmp_path)
        full(False)
        store.save(3, tree_of(3))
    assert is_of(read_quietly(tmp_path), 3)


def test_an_error_of_the_thread_is_raised_at_the_end_of_the_block(full, tmp_path):
    with (
        pytest.raises(WriteError, match="step_000000001"),
        lab.checkpoint_store(tmp_path, asynchronous=True) as store,
    ):
        full(True)
        store.save(1, tree_of(1))
    with (
        pytest.raises(KeyboardInterrupt) as caught,
        lab.checkpoint_store(tmp_path, asynchronous=True) as store,
    ):
        store.save(1, tree_of(1))
        raise KeyboardInterrupt
    assert any(
        "and its last checkpoint is lost: checkpoint step_000000001" in note
        for note in caught.value.__notes__
    )


def test_a_block_that_ends_with_an_error_has_finished_its_saves(tmp_path):
    with (
        pytest.raises(ZeroDivisionError),
        lab.checkpoint_store(tmp_path, asynchronous=True) as store,
    ):
        store.save(1, tree_of(1))
        raise ZeroDivisionError
    assert is_of(read_quietly(tmp_path), 1)


def test_a_wrong_tree_raises_in_the_call_of_save_also_if_asynchronous(tmp_path):
    with lab.checkpoint_store(tmp_path, asynchronous=True) as store:
        with pytest.raises(ConfigError, match="names joined by /"):
            store.save(1, {"../x": np.ones(1)})
        store.wait()
    with pytest.raises(ConfigError):
        lab.read(tmp_path)


def test_a_writer_opens_a_directory_with_a_corrupt_checkpoint(tmp_path):
    lab.save(tmp_path, tree_of(1), step=1)
    (folder_of(tmp_path, 1) / "manifest.json").write_bytes(b"")
    lab.save(tmp_path, tree_of(2), step=2)
    assert is_of(read_quietly(tmp_path), 2)
    with pytest.raises(CheckpointCorruptError):
        lab.read(tmp_path, step=1)
