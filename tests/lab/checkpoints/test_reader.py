"""Tests of the reader: wrong files are refused, and the step before is read."""

import os
import pickle
import re
import shutil
import warnings
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from saving import FILES, commit, folder_of, is_of, members_of, read_quietly, rewrite, tree_of

from fnn import lab
from fnn.errors import CheckpointCorruptError, CheckpointVersionError, ConfigError

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoints"


@pytest.fixture
def run(tmp_path):
    """A directory with checkpoints of steps 1 and 2."""
    with lab.checkpoint_store(tmp_path / "run", keep=None) as store:
        store.save(1, tree_of(1), notes={"epoch": 1}, score=0.5)
        store.save(2, tree_of(2), notes={"epoch": 2}, score=0.75)
    return tmp_path / "run"


def expect_refused(run, name):
    """Step 2 is refused with the name of the file; step 1 is read, and one warning names both."""
    with pytest.raises(
        CheckpointCorruptError, match=rf"checkpoint step_000000002/.*{re.escape(name)}"
    ):
        lab.read(run, step=2)
    with pytest.warns(
        UserWarning, match=r"corrupt: step_000000002 .*; step_000000001 is taken"
    ) as caught:
        checkpoint = lab.read(run)
    assert len(caught) == 1 and is_of(checkpoint, 1)


# Valid checkpoints.


def test_a_checkpoint_equals_the_saved_tree(run):
    checkpoint = read_quietly(run)
    assert is_of(checkpoint, 2)
    assert checkpoint.step == 2
    assert checkpoint.notes == {"epoch": 2}
    assert checkpoint.score == 0.75
    assert is_of(lab.read(run, step=1), 1)
    assert is_of(lab.read(run, step="best"), 1)


def test_format_1_can_be_read():
    checkpoint = read_quietly(GOLDEN / "format_1")
    expected = {
        "params/kernel": np.arange(6, dtype=np.float32).reshape(2, 3) / 4,
        "params/half": np.array([1.5, -2, 3], jnp.bfloat16),
        "params/quarter": np.array([0.5, 4], jnp.float8_e4m3fn),
        "step": np.array(7, np.int32),
        "wide": np.array([2.0**53, -1 / 3]),
        "mask": np.array([True, False]),
        "none": np.zeros((0, 4), np.uint8),
    }
    for path, array in expected.items():
        assert checkpoint.leaves[path].dtype == array.dtype
        np.testing.assert_array_equal(checkpoint.leaves[path], array, strict=True)
    key, keys = checkpoint.leaves["key"], checkpoint.leaves["keys"]
    assert key.dtype == jax.random.key(0).dtype and jax.random.key_data(key).tolist() == [0, 42]
    assert keys.dtype == jax.random.key(0, impl="rbg").dtype and keys.shape == (2,)
    assert jax.random.key_data(keys)[:, 0].tolist() == [507451445, 1948878966]
    assert (checkpoint.step, checkpoint.score) == (7, 0.25)
    assert checkpoint.notes == {"digits": "0.99", "list": [1, 2.5, None, True]}
    assert checkpoint.sha256 == "51900d870a9dbb53c56f52fd6b7a3ecb0698ca1f0535f7871f994cc854d41b33"
    assert checkpoint.leaves.keys() == expected.keys() | {"key", "keys"}


def test_the_modification_times_of_files_do_not_matter(run):
    """Clocks jump, and a copy may be newer than its original."""
    os.utime(folder_of(run, 2), (0, 0))
    os.utime(folder_of(run, 1), (2**32, 2**32))
    assert read_quietly(run).step == 2


def test_a_checkpoint_may_be_moved_and_copied(run, tmp_path):
    shutil.copytree(folder_of(run, 2), folder_of(tmp_path / "elsewhere", 2))
    shutil.rmtree(run)
    assert is_of(read_quietly(tmp_path / "elsewhere"), 2)
    assert str(tmp_path).encode() not in b"".join(
        path.read_bytes() for path in tmp_path.rglob("step_*/*")
    )


# Corrupt checkpoints.


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(name, run):
    (folder_of(run, 2) / name).unlink()
    expect_refused(run, name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_truncated_at_any_length_is_refused(name, run):
    file = folder_of(run, 2) / name
    whole = file.read_bytes()
    for length in reversed(range(len(whole))):
        os.truncate(file, length)
        with pytest.raises(
            CheckpointCorruptError, match=r"step_000000002/.*(COMMIT|manifest|data)"
        ):
            lab.read(run, step=2)
        if length % 100 == 0:
            expect_refused(run, "COMMIT" if name != "data.bin" else name)
    file.write_bytes(whole)
    assert read_quietly(run).step == 2


def mutate(raw, draw):
    """Return the bytes with a flipped bit, a block of zeros, a truncated end, or more bytes."""
    kind = draw.integers(4)
    index = int(draw.integers(len(raw)))
    if kind == 0:
        return raw[:index] + bytes([raw[index] ^ 1 << int(draw.integers(8))]) + raw[index + 1 :]
    if kind == 1:
        size = min(int(draw.integers(1, 513)), len(raw) - index)
        return raw[:index] + bytes(size) + raw[index + size :]
    return raw[:index] if kind == 2 else raw + draw.bytes(int(draw.integers(1, 65)))


@pytest.mark.slow
@pytest.mark.parametrize("mutations", [2_000, pytest.param(50_000, marks=pytest.mark.faults)])
def test_no_corrupt_checkpoint_is_loaded(mutations, run):
    """Each is refused with the name of the file or leaf, and the step before is read."""
    draw, corrupted = np.random.default_rng(mutations), 0
    whole = {name: (folder_of(run, 2) / name).read_bytes() for name in FILES}
    while corrupted < mutations:
        name = FILES[draw.choice(3, p=[0.1, 0.3, 0.6])]
        raw = mutate(whole[name], draw)
        if raw != whole[name]:
            rewrite(folder_of(run, 2) / name, raw)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                checkpoint = lab.read(run)
            assert is_of(checkpoint, 1)
            (warning,) = caught
            file_and_leaf = "manifest.json"
            if name == "data.bin":
                file_and_leaf = r"data\.bin( leaf '[a-z/]+'|): expected (SHA|1225)"
            pattern = rf"corrupt: step_000000002 \(.*/{file_and_leaf}"
            assert re.search(pattern, str(warning.message))
            rewrite(folder_of(run, 2) / name, whole[name])
            corrupted += 1
    assert is_of(read_quietly(run), 2)


def test_a_flipped_bit_raises_with_the_leaf_and_both_digests(run):
    file = folder_of(run, 2) / "data.bin"
    raw = bytearray(file.read_bytes())
    raw[10] ^= 4
    file.write_bytes(raw)
    with pytest.raises(
        CheckpointCorruptError, match=r"data.bin leaf 'params/bias': expected SHA-256 \w+, got \w+"
    ):
        lab.read(run, step=2)


def test_if_all_are_corrupt_the_error_names_the_latest(run):
    for step in (1, 2):
        (folder_of(run, step) / "data.bin").write_bytes(b"")
    with pytest.raises(
        CheckpointCorruptError, match=r"step_000000002/data.bin: expected 1225 bytes, got 0"
    ):
        lab.read(run)


def test_reading_the_best_raises_if_a_score_cannot_be_read(run):
    (folder_of(run, 2) / "COMMIT").write_bytes(b"")
    with pytest.raises(CheckpointCorruptError, match="step_000000002"):
        lab.read(run, step="best")


def test_a_folder_renamed_by_hand_is_refused(run):
    folder_of(run, 2).rename(folder_of(run, 3))
    with pytest.raises(CheckpointCorruptError, match="expected the step of step_000000003, got 2"):
        lab.read(run, step=3)


# Other files.


class Payload:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def foreign_files(folder, payload):
    """Files of other formats that would run code, if they could."""
    folder.mkdir()
    pickled = pickle.dumps(Payload(payload))
    (folder / "old.pickle").write_bytes(pickled)
    (folder / "array.npy").write_bytes(b"\x93NUMPY\x01\x00" + pickled)
    np.savez(folder / "arrays.npz", a=np.array([Payload(payload)]))
    with zipfile.ZipFile(folder / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    (folder / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + pickled)
    (folder / "unknown").write_bytes(b"text")
    return {
        "old.pickle": "pickled Python, which can run any code",
        "array.npy": "a NumPy array",
        "arrays.npz": "a zip archive, as of numpy.savez",
        "model.pt": "a zip archive, as of numpy.savez or torch.save",
        "model.h5": "HDF5",
        "unknown": "a file",
    }


def test_other_formats_are_refused_by_their_first_bytes_and_not_decoded(run, tmp_path):
    payload = tmp_path / "executed"
    for name, kind in foreign_files(tmp_path / "corpus", payload).items():
        file = tmp_path / "corpus" / name
        with pytest.raises(
            CheckpointCorruptError, match=f"expected a directory of checkpoints, got {kind}"
        ):
            lab.read(file)
        shutil.copy(file, folder_of(run, 2) / "manifest.json")
        with pytest.raises(CheckpointCorruptError, match=r"step_000000002/manifest\.json"):
            lab.read(run, step=2)
        commit(folder_of(run, 2), file.read_bytes())
        with pytest.raises(CheckpointCorruptError, match=r"step_000000002/manifest\.json.* JSON"):
            lab.read(run, step=2)
    assert not payload.exists()
    pickle.loads((tmp_path / "corpus" / "old.pickle").read_bytes())
    assert payload.exists()  # the payload works


@pytest.mark.parametrize("name", FILES)
def test_links_pipes_and_folders_in_place_of_a_file_are_refused(name, run):
    file = folder_of(run, 2) / name
    file.rename(run / "aside")
    file.symlink_to(run / "aside")
    expect_refused(run, name)
    file.unlink()
    os.mkfifo(file)
    expect_refused(run, name)
    file.unlink()
    file.mkdir()
    expect_refused(run, name)


def test_a_folder_that_is_a_link_is_refused(run):
    folder_of(run, 2).rename(run / "aside")
    folder_of(run, 2).symlink_to(run / "aside")
    expect_refused(run, "COMMIT")


def test_a_size_larger_than_the_file_is_refused_before_allocation(run):
    members = members_of(folder_of(run, 2))
    members["leaves"][-1]["shape"] = [10**12]
    commit(folder_of(run, 2), repr(members).replace("'", '"').replace("None", "null").encode())
    expect_refused(run, "data.bin")


@pytest.mark.parametrize(
    ("impl", "shape"), [("nonsense", [2]), ("threefry2x32", [3]), ("rbg", [2])]
)
def test_keys_that_jax_does_not_know_are_refused(impl, shape, tmp_path):
    lab.save(tmp_path, {"key": np.zeros(shape, np.uint32)})
    folder = folder_of(tmp_path, 0)
    raw = (folder / "manifest.json").read_bytes()
    commit(folder, raw.replace(b'"uint32"', f'"key:{impl}"'.encode()))
    with pytest.raises(
        CheckpointCorruptError, match=r"data.bin leaf 'key': expected keys that JAX knows"
    ):
        lab.read(tmp_path)


def test_booleans_other_than_0_and_1_are_refused(tmp_path):
    lab.save(tmp_path, {"x": np.array([0, 2], np.uint8)})
    raw = (folder_of(tmp_path, 0) / "manifest.json").read_bytes().replace(b'"uint8"', b'"bool"')
    commit(folder_of(tmp_path, 0), raw)
    with pytest.raises(CheckpointCorruptError, match="leaf 'x': expected bytes 0 and 1, got 2"):
        lab.read(tmp_path)


def test_a_newer_format_raises_and_no_older_step_is_read(run):
    folder = folder_of(run, 2)
    commit(folder, (folder / "manifest.json").read_bytes().replace(b'"format":1', b'"format":2'))
    for step in (None, 2):
        with pytest.raises(
            CheckpointVersionError,
            match="expected format 1 or older, got format 2; take a newer fnn",
        ):
            lab.read(run, step=step)


# Arguments.


def test_published_weights_are_pinned_by_their_digest(run):
    digest = lab.read(run).sha256
    assert lab.read(run, sha256=digest.upper()).step == 2
    with pytest.raises(
        CheckpointCorruptError,
        match=f"step_000000001/manifest.json: expected SHA-256 {digest}, got ",
    ):
        lab.read(run, step=1, sha256=digest)
    (folder_of(run, 2) / "data.bin").write_bytes(b"")
    with pytest.raises(CheckpointCorruptError, match=r"step_000000002/data.bin"):
        lab.read(run, sha256=digest)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 3}, "step: expected one of 1, 2, got 3"),
        ({"step": -1}, "step: expected >= 0, got -1"),
        ({"step": True}, "step: expected a whole number, got True"),
        ({"step": "last"}, "step: expected one of best, got 'last'"),
    ],
)
def test_a_step_that_does_not_exist_raises(options, message, run):
    with pytest.raises(ConfigError, match=message):
        lab.read(run, **options)


def test_a_directory_without_checkpoints_raises(run, tmp_path):
    lab.save(tmp_path / "unscored", {})
    for given, options, message in [
        (tmp_path, {}, "expected checkpoints, as step_000000120, got a directory without any"),
        (tmp_path / "nowhere", {}, "no such directory"),
        (
            folder_of(run, 2),
            {},
            "expected a directory of checkpoints, got one of them, step_000000002",
        ),
        ({"a": 1}, {}, "directory: expected a path, got dict"),
        (tmp_path / "unscored", {"step": "best"}, "a checkpoint with a score"),
    ]:
        with pytest.raises(ConfigError, match=message):
            lab.read(given, **options)
