"""Tests of export to and import from safetensors files."""

import errno
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


def test_keys_and_rare_dtypes_raise_with_the_path(tmp_path):
    for leaf in (jax.random.key(0), jnp.ones(2, jnp.int4), np.ones(1, complex)):
        with pytest.raises(DTypeError, match="tree a/b: expected a dtype that safetensors knows"):
            lab.export_safetensors(tmp_path / "x", {"a": {"b": leaf}})
    assert not any(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path):
    whole = lab.export_safetensors(tmp_path / "whole", TREE).read_bytes()
    for raw, message in [
        (b"\x80\x04.", "pickled Python"),
        (b"PK\x03\x04", "a zip archive"),
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
