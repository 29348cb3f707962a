"""Tests of the writer: killed processes, loss of power and full disks lose no saved checkpoint."""

import errno
import itertools
import os
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from saving import folder_of, is_clean, is_of, read_quietly, tree_of

from fnn import lab
from fnn.errors import ConfigError, DTypeError, WriteError
from fnn.lab.disk import write_errors

CALLS = ("write", "fsync", "mkdir", "rename", "unlink", "rmdir")


# Killed processes.


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.faults)])
def test_a_killed_process_leaves_every_step_that_it_reported_as_saved(
    kills, asynchronous, saver, tmp_path
):
    draw, last = np.random.default_rng(kills), 0
    lab.save(tmp_path, tree_of(0, 30_000))
    for _ in range(kills):
        pid = saver.start("loop", tmp_path, first=last + 1, asynchronous=asynchronous)
        # However slow the machine is, at least one step is saved.
        saver.wait_for_line()
        time.sleep(draw.uniform(0, 0.1))
        saver.kill(pid)
        reported = int(saver.lines()[-1])
        checkpoint = read_quietly(tmp_path)
        # The last save may have finished without its report.
        assert checkpoint.step in (reported, reported + 1)
        assert is_of(checkpoint, checkpoint.step, 30_000)
        last = checkpoint.step
        with lab.checkpoint_store(tmp_path):
            assert is_clean(tmp_path)
    assert last >= kills


@pytest.mark.parametrize(("step", "of"), [(2, 2), (1, 20)], ids=["next", "same step"])
def test_a_process_that_exits_at_any_system_call_leaves_the_old_or_the_new_checkpoint(
    step, of, saver, tmp_path
):
    """Step 1 is saved; then step 2 is saved and step 1 deleted, or step 1 is replaced."""
    for at in range(200):
        directory = tmp_path / str(at)
        lab.save(directory, tree_of(1), step=1)
        code = saver.run("crash", directory, step=step, of=of, at=at)
        assert code in (0, 137)
        checkpoint = read_quietly(directory)
        expected = [of] if saver.lines() else [1, of]
        assert any(is_of(checkpoint, one) for one in expected)
        lab.save(directory, tree_of(3), step=3)
        assert is_clean(directory) and is_of(read_quietly(directory), 3)
        if code == 0:
            break
    assert at > 25


# Loss of power.


@pytest.fixture
def journal(monkeypatch):
    """The system calls that change files, in order, as (call, path, bytes or new path)."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux gives the path of a descriptor")
    calls = []
    real = {name: getattr(os, name) for name in (*CALLS, "open")}

    def named(descriptor):
        return Path(f"/proc/self/fd/{descriptor}").readlink()

    def whole(path, dir_fd):
        return Path(path) if dir_fd is None else named(dir_fd) / path

    def record(name, *args, dir_fd=None, **options):
        if name in ("write", "fsync"):
            calls.append((name, named(args[0]), bytes(args[1]) if name == "write" else None))
        elif name != "open":
            calls.append(
                (name, whole(args[0], dir_fd), Path(args[1]) if name == "rename" else None)
            )
        elif args[1] & os.O_CREAT:
            calls.append(("create", whole(args[0], dir_fd), None))
        return real[name](*args, **options | ({} if dir_fd is None else {"dir_fd": dir_fd}))

    for name in real:
        monkeypatch.setattr(os, name, partial(record, name))
    yield calls
    monkeypatch.undo()


def test_data_is_on_the_disk_before_its_name_and_the_name_before_save_returns(journal, tmp_path):
    with lab.checkpoint_store(tmp_path) as store:
        journal.clear()
        store.save(5, tree_of(5))
        calls = [
            (name, path.name, more.name if name == "rename" else None)
            for name, path, more in journal
        ]
    name = "step_000000005.partial"
    index = calls.index
    for file in ("data.bin", "manifest.json", "COMMIT"):
        last_write = max(index for index, call in enumerate(calls) if call[:2] == ("write", file))
        assert last_write < index(("fsync", file, None)) < index(("fsync", name, None))
    renamed = ("rename", name, "step_000000005")
    assert index(("fsync", name, None)) < index(renamed)
    assert calls[index(renamed) + 1] == ("fsync", tmp_path.name, None)


NAMING = ("create", "mkdir", "rename", "unlink", "rmdir")


def replay(calls, names, contents):
    """Return the files (bytes) and folders (None) after a loss of power.

    All that was synced is there, and some of the rest: the first `names` of the other changes of
    names, as a file system keeps their order, and the share `contents` of the other bytes.
    """
    synced = {path: index for index, (name, path, _) in enumerate(calls) if name == "fsync"}
    pending = [
        index
        for index, (name, path, _) in enumerate(calls)
        if name in NAMING and synced.get(path.parent, -1) < index
    ]
    lost, disk = set(pending[names:]), {}
    for index, (name, path, more) in enumerate(calls):
        if index in lost or (name not in ("create", "mkdir") and path not in disk):
            continue
        if name in ("create", "mkdir"):
            disk.setdefault(path, None if name == "mkdir" else (b"", 0))
        elif name == "write":
            disk[path] = (disk[path][0] + more, disk[path][1])
        elif name == "fsync" and disk[path] is not None:
            disk[path] = (disk[path][0], len(disk[path][0]))
        elif name != "fsync":
            moved = {one: disk.pop(one) for one in list(disk) if one == path or path in one.parents}
            if name == "rename":
                disk |= {more / one.relative_to(path): file for one, file in moved.items()}
    return {
        path: file and file[0][: file[1] + int(contents * (len(file[0]) - file[1]))]
        for path, file in disk.items()
    }


def lay_out(disk, root):
    """Make these files and folders below `root`, without files whose folder is missing."""
    for path, raw in sorted(disk.items()):
        target = root / path
        if raw is None:
            target.mkdir()
        elif target.parent.is_dir():
            target.write_bytes(raw)


@pytest.mark.slow
def test_a_loss_of_power_at_any_moment_leaves_the_old_or_the_new_checkpoint(journal, tmp_path):
    """Every prefix of the calls, with 0 to 5 unsynced names and none to all unsynced bytes."""
    directory, states, saved = tmp_path / "run", 0, []
    with lab.checkpoint_store(directory, keep=1) as store:
        journal[:] = [("mkdir", directory, None), ("fsync", tmp_path, None), *journal[-2:]]
        for step, of in [(1, 1), (2, 2), (2, 30), (4, 4)]:
            store.save(step, tree_of(of))
            saved.append((len(journal), of))  # the number of calls when it returned
    calls = [
        (name, path.relative_to(tmp_path), more.relative_to(tmp_path) if name == "rename" else more)
        for name, path, more in journal
    ]
    for end in range(saved[0][0], len(calls) + 1):
        expected = [of for made, of in saved if made <= end][-1:] + [
            of for made, of in saved if made > end
        ][:1]
        for names, contents in itertools.product(range(6), (0.0, 0.5, 1.0)):
            here = tmp_path / f"{end} {names} {contents}"
            here.mkdir()
            lay_out(replay(calls[:end], names, contents), here)
            checkpoint = read_quietly(here / "run")
            assert any(is_of(checkpoint, of) for of in expected)
            states += 1
    assert states > 500


# Full disks.


def failing(monkeypatch, at, code=errno.ENOSPC):
    """Make the call of an index fail; return the count of calls."""
    count = [0]

    def wrapped(real, *args, **options):
        count[0] += 1
        if count[0] == at:
            raise OSError(code, os.strerror(code))
        return real(*args, **options)

    for name in ("write", "fsync", "mkdir", "rename"):
        monkeypatch.setattr(os, name, partial(wrapped, getattr(os, name)))
    return count


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("step", [1, 2])
def test_an_error_of_the_disk_is_raised_by_save_and_loses_no_checkpoint(
    step, code, tmp_path, monkeypatch
):
    lab.save(tmp_path, tree_of(1), step=1)
    with lab.checkpoint_store(tmp_path, keep=1) as store:
        for at in range(1, 100):
            failing(monkeypatch, at, code)
            try:
                store.save(step, tree_of(20))
                break
            except WriteError as error:
                assert error.errno == code
                assert str(tmp_path) in str(error)
                assert os.strerror(code) in str(error)
                assert "1225 bytes" in str(error) or "older" in str(error)
            finally:
                monkeypatch.undo()
            checkpoint = read_quietly(tmp_path)
            assert is_of(checkpoint, 1) or is_of(checkpoint, 20)
            # Call 9 flushes the new name to the disk; before it, the old checkpoint is valid.
            assert is_of(checkpoint, 1) or at >= 9
            assert is_clean(tmp_path)
    assert at > 9 and is_of(read_quietly(tmp_path), 20)


def test_partial_writes_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:100])))
    lab.save(tmp_path, tree_of(1))
    assert is_of(read_quietly(tmp_path), 1)


def test_a_limit_on_file_sizes_raises_and_leaves_no_files(saver, tmp_path):
    lab.save(tmp_path, tree_of(1), step=1)
    assert saver.run("save_with_limits", tmp_path, step=2, bytes_at_most=1000, user=0) == 0
    (message,) = saver.lines()
    assert message.startswith(f"WriteError {errno.EFBIG} checkpoint step_000000002 in {tmp_path}")
    assert "room for 1225 bytes" in message and "File too large" in message
    assert is_of(read_quietly(tmp_path), 1) and is_clean(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="users of POSIX")
def test_a_folder_without_write_permission_raises(saver, tmp_path):
    directory = tmp_path / "run"
    lab.save(directory, tree_of(1), step=1)
    directory.chmod(0o555)
    before = sorted(directory.iterdir())
    user = os.getuid() or 65534
    assert saver.run("save_with_limits", directory, step=2, bytes_at_most=0, user=user) == 0
    (message,) = saver.lines()
    assert "WriteError 13" in message and "Permission denied" in message
    directory.chmod(0o755)
    assert sorted(directory.iterdir()) == before and is_of(read_quietly(directory), 1)


@pytest.mark.faults
def test_a_full_disk_raises_and_leaves_no_files(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root may mount")
    try:
        with lab.checkpoint_store(tmp_path) as store:
            store.save(1, tree_of(1))
            with pytest.raises(
                WriteError, match=r"room for 3000\d\d bytes, got No space left on device"
            ):
                store.save(2, tree_of(2, 75_000))
            assert is_clean(tmp_path) and is_of(read_quietly(tmp_path), 1)
            store.save(3, tree_of(3))
        assert is_of(read_quietly(tmp_path), 3)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# Trees that cannot be saved.


@pytest.mark.parametrize(
    ("tree", "options", "error", "message"),
    [
        ({"../x": np.ones(1)}, {}, ConfigError, "path: expected names joined by /, got '../x'"),
        ({"/x": np.ones(1)}, {}, ConfigError, "names joined by /"),
        ({"a\0": np.ones(1)}, {}, ConfigError, "names joined by /"),
        (
            {"a/b": np.ones(1), "a": {"b": np.ones(1)}},
            {},
            ConfigError,
            "a unique path for each leaf",
        ),
        ({"a": np.array(["text"])}, {}, DTypeError, "tree a: expected an array of numbers"),
        ({"a": np.array([None])}, {}, DTypeError, "tree a: expected an array of numbers"),
        ({"a": "text"}, {}, DTypeError, "tree a: expected an array of numbers, or keys, got str"),
        ({"a": np.ones((1,) * 17)}, {}, ConfigError, "shape: expected at most 16 sizes"),
        (
            {},
            {"notes": {"loss": float("nan")}},
            ConfigError,
            "notes: expected a value that JSON can represent",
        ),
        (
            {},
            {"notes": {1: 2}},
            ConfigError,
            "notes: expected a value that is the same after a round trip",
        ),
        ({}, {"notes": object()}, ConfigError, "notes: expected a value that JSON can represent"),
        ({}, {"score": float("nan")}, ConfigError, "score: expected a number"),
        ({}, {"step": -1}, ConfigError, "step: expected >= 0, got -1"),
        ({}, {"step": 10**19}, ConfigError, "step: expected a whole number"),
    ],
)
def test_a_tree_that_could_not_be_read_again_raises_before_it_is_written(
    tree, options, error, message, tmp_path
):
    with lab.checkpoint_store(tmp_path) as store:
        with pytest.raises(error, match=message):
            store.save(**{"step": 1, "tree": tree} | options)
        assert store.steps() == [] and is_clean(tmp_path)


def test_a_tree_without_leaves_and_a_bare_leaf_are_saved(tmp_path):
    lab.save(tmp_path / "none", {})
    lab.save(tmp_path / "one", np.arange(3.0))
    assert lab.read(tmp_path / "none").leaves == {} and lab.restore(tmp_path / "none", {}) == {}
    np.testing.assert_array_equal(lab.restore(tmp_path / "one", np.zeros(3)), np.arange(3.0))
    assert folder_of(tmp_path / "one", 0).is_dir()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, r"got .* \(\d+ bytes free\); free some space, or choose another directory"),
        (errno.EACCES, r"got Permission denied; choose another directory"),
    ],
)
def test_the_advice_of_a_failed_write_fits_its_reason(code, message, tmp_path):
    with pytest.raises(WriteError, match=message) as caught, write_errors("x", tmp_path):
        raise OSError(code, os.strerror(code))
    assert caught.value.errno == code
