"""Killed at any moment, or without power: what was saved is there, whole. Without room: an error, and nothing lost."""

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
from fnn.errors import CheckpointWriteError, ConfigError, DTypeError

CALLS = ("write", "fsync", "mkdir", "rename", "unlink", "rmdir")


# Killed.


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.faults)])
def test_a_killed_process_leaves_all_that_it_told_to_be_saved(kills, asynchronous, saver, tmp_path):
    draw, last = np.random.default_rng(kills), 0
    lab.save(tmp_path, tree_of(0, 30_000))
    for _ in range(kills):
        pid = saver.start("loop", tmp_path, first=last + 1, asynchronous=asynchronous)
        time.sleep(draw.uniform(0.02, 0.12))
        saver.kill(pid)
        told = int(saver.told()[-1]) if saver.told() else last
        checkpoint = read_quietly(tmp_path)
        assert checkpoint.step in (told, told + 1) and is_of(checkpoint, checkpoint.step, 30_000)
        last = checkpoint.step
        with lab.checkpoint_store(tmp_path):
            assert is_clean(tmp_path)
    assert last > kills / 2


@pytest.mark.parametrize(("step", "of"), [(2, 2), (1, 20)], ids=["next", "same step"])
def test_a_process_that_dies_at_any_call_leaves_the_old_checkpoint_or_the_new(
    step, of, saver, tmp_path
):
    """Step 1 is there; step 2 comes, and step 1 goes; or another takes the place of step 1."""
    for at in range(200):
        directory = tmp_path / str(at)
        lab.save(directory, tree_of(1), step=1)
        code = saver.run("crash", directory, step=step, of=of, at=at)
        assert code in (0, 137)
        checkpoint = read_quietly(directory)
        expected = [of] if saver.told() else [1, of]
        assert any(is_of(checkpoint, one) for one in expected)
        lab.save(directory, tree_of(3), step=3)
        assert is_clean(directory) and is_of(read_quietly(directory), 3)
        if code == 0:
            break
    assert at > 25


# Without power.


@pytest.fixture
def journal(monkeypatch):
    """What is asked of the system, in order, as (call, path, what more)."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux tells what a descriptor is of")
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


def test_all_is_on_the_disk_before_its_name_is_and_its_name_before_save_returns(journal, tmp_path):
    with lab.checkpoint_store(tmp_path) as store:
        journal.clear()
        store.save(5, tree_of(5))
        calls = [
            (name, path.name, more.name if name == "rename" else None)
            for name, path, more in journal
        ]
    name, place = "step_000000005.partial", calls.index
    for file in ("data.bin", "manifest.json", "COMMIT"):
        last_write = max(index for index, call in enumerate(calls) if call[:2] == ("write", file))
        assert last_write < place(("fsync", file, None)) < place(("fsync", name, None))
    renamed = ("rename", name, "step_000000005")
    assert place(("fsync", name, None)) < place(renamed)
    assert calls[place(renamed) + 1] == ("fsync", tmp_path.name, None)


NAMING = ("create", "mkdir", "rename", "unlink", "rmdir")


def replayed(calls, names, contents):
    """The files (bytes) and folders (None) after a loss of power: what was synced, and some of the rest.

    names tells how many of the other changes of names are there, for a file system keeps them in order; contents, what
    part of the bytes that were not synced.
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


def lay_out(disk, place):
    """Make these files and folders there, less what lies in a folder that is not."""
    for path, raw in sorted(disk.items()):
        target = place / path
        if raw is None:
            target.mkdir()
        elif target.parent.is_dir():
            target.write_bytes(raw)


def test_a_loss_of_power_at_any_moment_leaves_the_old_checkpoint_or_the_new(journal, tmp_path):
    """Every prefix of the calls; of what was not synced, each number of names, and all, half or none of the bytes."""
    directory, states, saved = tmp_path / "run", 0, []
    with lab.checkpoint_store(directory, keep=1) as store:
        journal[:] = [("mkdir", directory, None), ("fsync", tmp_path, None), *journal[-2:]]
        for step, of in [(1, 1), (2, 2), (2, 30), (4, 4)]:
            store.save(step, tree_of(of))
            saved.append((len(journal), of))  # how many calls had been made when it returned
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
            lay_out(replayed(calls[:end], names, contents), here)
            checkpoint = read_quietly(here / "run")
            assert any(is_of(checkpoint, of) for of in expected)
            states += 1
    assert states > 500


# Without room.


def failing(monkeypatch, at, code=errno.ENOSPC):
    """Let the call of that number fail, and give the count of calls."""
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
def test_a_full_disk_is_told_by_the_call_that_met_it_and_costs_nothing_saved_before(
    step, code, tmp_path, monkeypatch
):
    lab.save(tmp_path, tree_of(1), step=1)
    with lab.checkpoint_store(tmp_path, keep=1) as store:
        for at in range(1, 100):
            failing(monkeypatch, at, code)
            try:
                store.save(step, tree_of(20))
                break
            except CheckpointWriteError as error:
                assert (
                    error.errno == code
                    and str(tmp_path) in str(error)
                    and os.strerror(code) in str(error)
                )
                assert "1225 bytes" in str(error) or "before" in str(error)
            finally:
                monkeypatch.undo()
            checkpoint = read_quietly(tmp_path)
            assert is_of(checkpoint, 1) or is_of(checkpoint, 20)
            assert (
                is_of(checkpoint, 1) or at >= 9
            )  # the last of the calls, which puts its name on the disk
            assert is_clean(tmp_path)
    assert at > 9 and is_of(read_quietly(tmp_path), 20)


def test_a_system_that_writes_a_part_at_a_time_is_asked_again(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:100])))
    lab.save(tmp_path, tree_of(1))
    assert is_of(read_quietly(tmp_path), 1)


def test_a_limit_on_files_is_told_and_nothing_is_left(saver, tmp_path):
    lab.save(tmp_path, tree_of(1), step=1)
    assert saver.run("hampered", tmp_path, step=2, bytes_at_most=1000, user=0) == 0
    (told,) = saver.told()
    assert told.startswith(
        f"CheckpointWriteError {errno.EFBIG} checkpoint step_000000002 in {tmp_path}"
    )
    assert "room for 1225 bytes" in told and "File too large" in told
    assert is_of(read_quietly(tmp_path), 1) and is_clean(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="users of POSIX")
def test_a_folder_that_may_not_be_written_to_is_told(saver, tmp_path):
    directory = tmp_path / "run"
    lab.save(directory, tree_of(1), step=1)
    directory.chmod(0o555)
    before = sorted(directory.iterdir())
    assert saver.run("hampered", directory, step=2, bytes_at_most=0, user=os.getuid() or 65534) == 0
    (told,) = saver.told()
    assert "CheckpointWriteError 13" in told and "Permission denied" in told
    directory.chmod(0o755)
    assert sorted(directory.iterdir()) == before and is_of(read_quietly(directory), 1)


@pytest.mark.faults
def test_a_disk_that_is_full_is_told_and_nothing_is_left(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root may mount")
    try:
        with lab.checkpoint_store(tmp_path) as store:
            store.save(1, tree_of(1))
            with pytest.raises(
                CheckpointWriteError, match=r"room for 3000\d\d bytes, got No space left on device"
            ):
                store.save(2, tree_of(2, 75_000))
            assert is_clean(tmp_path) and is_of(read_quietly(tmp_path), 1)
            store.save(3, tree_of(3))
        assert is_of(read_quietly(tmp_path), 3)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# What may not be saved.


@pytest.mark.parametrize(
    ("tree", "options", "error", "told"),
    [
        ({"../x": np.ones(1)}, {}, ConfigError, "path: expected names joined by /, got '../x'"),
        ({"/x": np.ones(1)}, {}, ConfigError, "names joined by /"),
        ({"a\0": np.ones(1)}, {}, ConfigError, "names joined by /"),
        (
            {"a/b": np.ones(1), "a": {"b": np.ones(1)}},
            {},
            ConfigError,
            "a path of its own for each leaf",
        ),
        ({"a": np.array(["text"])}, {}, DTypeError, "tree a: expected an array of numbers"),
        ({"a": np.array([None])}, {}, DTypeError, "tree a: expected an array of numbers"),
        ({"a": "text"}, {}, DTypeError, "tree a: expected an array of numbers, or keys, got str"),
        ({"a": np.ones((1,) * 17)}, {}, ConfigError, "shape: expected at most 16 sizes"),
        ({}, {"notes": {"loss": float("nan")}}, ConfigError, "notes: expected what JSON can hold"),
        ({}, {"notes": {1: 2}}, ConfigError, "notes: expected what comes back from JSON as it was"),
        ({}, {"notes": object()}, ConfigError, "notes: expected what JSON can hold"),
        ({}, {"score": float("nan")}, ConfigError, "score: expected a number"),
        ({}, {"step": -1}, ConfigError, "step: expected >= 0, got -1"),
        ({}, {"step": 10**19}, ConfigError, "step: expected a whole number"),
    ],
)
def test_what_could_not_be_read_back_is_refused_before_anything_is_written(
    tree, options, error, told, tmp_path
):
    with lab.checkpoint_store(tmp_path) as store:
        with pytest.raises(error, match=told):
            store.save(**{"step": 1, "tree": tree} | options)
        assert store.steps() == [] and is_clean(tmp_path)


def test_a_tree_of_no_leaves_or_one_is_a_tree(tmp_path):
    lab.save(tmp_path / "none", {})
    lab.save(tmp_path / "one", np.arange(3.0))
    assert lab.read(tmp_path / "none").leaves == {} and lab.restore(tmp_path / "none", {}) == {}
    np.testing.assert_array_equal(lab.restore(tmp_path / "one", np.zeros(3)), np.arange(3.0))
    assert folder_of(tmp_path / "one", 0).is_dir()
