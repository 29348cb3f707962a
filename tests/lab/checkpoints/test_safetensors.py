"""Tests of export to and import from safetensors files."""

import errno
import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fnn import lab
from fnn.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    ConfigError,
    DTypeError,
    WriteError,
)

TREE = {
    "body": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4).T, "count": np.array(7)},
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 3), np.int8),
}


def test_other_readers_find_the_arrays_under_their_paths(tmp_path):
    path = lab.export_safetensors(tmp_path / "weights.safetensors", TREE)
    found = load_file(path)
    assert found.keys() == {"body/kernel", "body/count", "mask", "empty"}
    for name, array in {**TREE["body"], "mask": TREE["mask"], "empty": TREE["empty"]}.items():
        np.testing.assert_array_equal(
            found.get(name, found.get(f"body/{name}")), array, strict=True
        )


def test_a_tree_with_narrow_dtypes_is_restored(tmp_path):
    tree = TREE | {
        "narrow": [
            jnp.ones(3, jnp.bfloat16),
            jnp.array([0.5], jnp.float8_e4m3fn),
            jnp.zeros(2, jnp.float8_e5m2),
        ]
    }
    path = lab.export_safetensors(tmp_path / "weights.safetensors", tree)
    back = lab.import_safetensors(path, tree)
    for saved, found in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True):
        assert type(saved) is type(found) and saved.dtype == found.dtype
        np.testing.assert_array_equal(saved, found)
    with safe_open(path, framework="numpy") as file:
        assert file.get_slice("narrow/0").get_dtype() == "BF16"


def test_shapes_and_dtypes_of_other_files_are_checked(tmp_path):
    save_file({"x": np.ones(3), "y": np.ones(2, np.float32)}, tmp_path / "theirs")
    back = lab.import_safetensors(
        tmp_path / "theirs", {"x": jnp.zeros(3), "y": jnp.zeros(2)}, cast=True
    )
    assert back["x"].dtype == np.float32
    for like in (
        {"x": jnp.zeros(3), "y": jnp.zeros(2)},
        {"x": np.zeros(3)},
        {"x": np.zeros(4), "y": np.zeros(2)},
    ):
        with pytest.raises(CheckpointMismatchError, match=r"restore [xy]"):
            lab.import_safetensors(tmp_path / "theirs", like)


def test_a_header_of_any_length_is_read_back(tmp_path):
    # The first byte of a file is the length of its header modulo 256, a multiple of 8.
    first_bytes = set()
    for count in range(1, 257, 4):
        tree = {"w" * count: np.full(3, count, np.float32)}
        save_file(tree, tmp_path / "theirs")
        ours = lab.export_safetensors(tmp_path / "ours", tree)
        for path in (ours, tmp_path / "theirs"):
            back = lab.import_safetensors(path, tree)
            np.testing.assert_array_equal(back["w" * count], tree["w" * count])
            first_bytes.add(path.read_bytes()[0])
    assert len(first_bytes) == 32


def test_a_safetensors_file_is_named_where_checkpoints_are_expected(tmp_path):
    for count in range(1, 60):
        path = lab.export_safetensors(tmp_path / "file", {"w" * count: np.zeros(3)})
        with pytest.raises(CheckpointCorruptError, match=r"got a safetensors file, which lab\.imp"):
            lab.restore(path, {})


def test_a_truncated_file_is_not_called_pickled(tmp_path):
    path = tmp_path / "file"
    for count in range(1, 60):
        save_file({"w" * count: np.zeros(30, np.float32)}, path)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(CheckpointCorruptError) as caught:
            lab.import_safetensors(path, {})
        assert "pickled" not in str(caught.value)


def test_exports_have_the_metadata_that_other_libraries_require(tmp_path):
    path = lab.export_safetensors(tmp_path / "weights", TREE)
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
    path = lab.export_safetensors(path, TREE, metadata={"format": "np", "license": "MIT"})
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"format": "np", "license": "MIT"}
    back = lab.import_safetensors(path, TREE)
    np.testing.assert_array_equal(back["body"]["kernel"], TREE["body"]["kernel"])
    with pytest.raises(ConfigError, match="metadata epochs: expected a text, got 3"):
        lab.export_safetensors(path, TREE, metadata={"epochs": 3})
    with pytest.raises(ConfigError, match="metadata note: expected text in UTF-8"):
        lab.export_safetensors(path, TREE, metadata={"note": "\ud800"})
    for wrong in ("pt", ["format"], [("format", "pt")]):
        with pytest.raises(ConfigError, match="metadata: expected a dict of texts"):
            lab.export_safetensors(path, TREE, metadata=wrong)


@pytest.fixture
def shards(tmp_path):
    """A function that writes an index of two shards, after a change of its table."""
    save_file({"a": np.ones(2)}, tmp_path / "model-1.safetensors")
    save_file({"b/c": np.zeros(3)}, tmp_path / "model-2.safetensors")
    table = {"a": "model-1.safetensors", "b/c": "model-2.safetensors"}

    def write(change=lambda table: table):
        path = tmp_path / "model.safetensors.index.json"
        path.write_text(json.dumps({"metadata": {}, "weight_map": change(table)}))
        return path

    return write


SHARDED = {"a": np.zeros(2), "b": {"c": np.ones(3)}}


def test_all_shards_of_an_index_are_read(shards):
    back = lab.import_safetensors(shards(), SHARDED)
    assert back["a"].tolist() == [1, 1] and back["b"]["c"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: [], "expected an index of safetensors files in its folder"),
        (lambda table: {"a": 3}, "expected an index of safetensors files in its folder"),
        (lambda table: {"a": "../model-1.safetensors"}, "expected an index"),
        (lambda table: {"a": "/etc/passwd"}, "expected an index"),
        (lambda table: {"a": ""}, "expected an index"),
        (lambda table: {"a": "model.safetensors.index.json"}, "expected an index"),
        (lambda table: {"a": ".."}, "expected an index"),
        (lambda table: table | {"d": "model-1.safetensors"}, "expected the tensor d, as model"),
        (lambda table: {"a": "model-1.safetensors", "b": "model-2.safetensors"}, "tensor b, as"),
    ],
)
def test_an_index_that_does_not_fit_raises(change, message, shards):
    with pytest.raises(CheckpointCorruptError, match=message):
        lab.import_safetensors(shards(change), SHARDED)


def test_a_missing_or_unlisted_shard_raises(shards, tmp_path):
    save_file({"b/c": np.zeros(3), "e": np.ones(1)}, tmp_path / "model-2.safetensors")
    with pytest.raises(CheckpointCorruptError, match=r"an entry for each tensor .* none for e"):
        lab.import_safetensors(shards(), SHARDED)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"file that exists, got .*model-2\.safetensors"):
        lab.import_safetensors(shards(), SHARDED)


def test_names_in_a_file_are_escaped_in_messages(tmp_path):
    name = "\x1b]0;title\x07\nx"
    save_file({name: np.zeros(2)}, tmp_path / "theirs")
    with pytest.raises(CheckpointMismatchError) as caught:
        lab.import_safetensors(tmp_path / "theirs", {"x": np.zeros(2)})
    assert str(caught.value).isprintable()
    with pytest.raises(CheckpointMismatchError) as caught:
        lab.import_safetensors(tmp_path / "theirs", {name: np.zeros(3)})
    assert r"restore \x1b]0;title\x07\nx: expected" in str(caught.value)


def test_keys_and_rare_dtypes_raise_with_the_path(tmp_path):
    for leaf in (jax.random.key(0), jnp.ones(2, jnp.int4), np.ones(1, complex)):
        with pytest.raises(DTypeError, match="tree a/b: expected a dtype that safetensors knows"):
            lab.export_safetensors(tmp_path / "x", {"a": {"b": leaf}})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["__metadata__", "\ud800"])
def test_names_that_a_file_cannot_hold_raise(name, tmp_path):
    with pytest.raises(ConfigError, match="export_safetensors tree: expected names in UTF-8"):
        lab.export_safetensors(tmp_path / "x", {name: np.ones(1)})
    assert not any(tmp_path.iterdir())


def test_masked_arrays_are_not_written(tmp_path):
    masked = np.ma.masked_equal(np.arange(3.0), 1)
    with pytest.raises(DTypeError, match="tree a: expected an array without a mask"):
        lab.export_safetensors(tmp_path / "x", {"a": masked})
    assert not any(tmp_path.iterdir())


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WriteError, match=r"pipe in .*, got a device, not a file"):
        lab.export_safetensors(tmp_path / "pipe", TREE)
    assert (tmp_path / "pipe").is_fifo()


def test_other_files_are_refused(tmp_path):
    whole = lab.export_safetensors(tmp_path / "whole", TREE).read_bytes()
    for raw, message in [
        (b"\x80\x04.", "pickled Python"),
        (b"PK\x03\x04", "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (whole[:-1], "MetadataIncompleteBuffer|incomplete"),
        (b"", "HeaderTooSmall|header"),
        (b"\xff" * 20, "HeaderTooLarge|header"),
    ]:
        (tmp_path / "file").write_bytes(raw)
        with pytest.raises(
            CheckpointCorruptError, match=f"file file: .* safetensors file, got .*({message})"
        ):
            lab.import_safetensors(tmp_path / "file", TREE)
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="path: expected a file that exists"):
            lab.import_safetensors(path, TREE)


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_full_disk_keeps_the_old_file(call, tmp_path, monkeypatch):
    path = lab.export_safetensors(tmp_path / "weights", {"x": np.ones(2)})

    def no_room(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, no_room)
    with pytest.raises(WriteError, match=r"weights in .*room for .* bytes, got No space left"):
        lab.export_safetensors(path, TREE)
    assert [one.name for one in tmp_path.iterdir()] == ["weights"]
    assert lab.import_safetensors(path, {"x": np.zeros(2)})["x"].tolist() == [1, 1]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ("write", "fsync", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))[1]
        )
    lab.export_safetensors(tmp_path / "weights", TREE)
    assert calls == ["write", "fsync", "rename", "fsync"]


def test_a_missing_folder_and_a_missing_package_raise(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="path: expected a folder that exists"):
        lab.export_safetensors(tmp_path / "none" / "weights", TREE)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for use in (lab.export_safetensors, lab.import_safetensors):
        with pytest.raises(ConfigError, match=r"pip install '\.\[weights\]'"):
            use(tmp_path / "weights", TREE)
