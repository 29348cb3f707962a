"""Files written by NumPy; damaged and malicious ones, and those with objects."""

import io
import re
import subprocess
import sys
import zipfile
from itertools import chain

import numpy as np
import pytest
from crafting import damaged

from fnn import data
from fnn.errors import ConfigError, DatasetFormatError, DatasetIntegrityError

DRAW = np.random.default_rng(0)
ARRAYS = {
    "bytes": DRAW.integers(0, 256, (7, 3, 2), np.uint8),
    "floats": DRAW.normal(size=(5, 4)),
    "columns": np.asfortranarray(DRAW.normal(size=(3, 4)).astype(np.float32)),
    "big-endian": np.arange(6, dtype=">i4").reshape(2, 3),
    "complex": DRAW.normal(size=3) + 1j,
    "truth": np.array([True, False]),
    "one": np.array(3.5),
    "none": np.zeros((0, 4), np.float16),
}


def npy(array, **options):
    stored = io.BytesIO()
    np.lib.format.write_array(stored, array, **options)
    return stored.getvalue()


def header(text):
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_an_array_is_loaded_unchanged(name, version, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(npy(ARRAYS[name], version=version))
    found = data.npy(path)
    np.testing.assert_array_equal(found, ARRAYS[name])
    assert found.dtype == ARRAYS[name].dtype.newbyteorder("=") and found.flags.writeable


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_loaded_by_name(save, tmp_path):
    x, y = DRAW.normal(size=(500, 30)), DRAW.integers(0, 3, 500)
    save(tmp_path / "a.npz", inputs=x, targets=y, x_test=x[:9], y_test=y[:9], other=np.zeros(3))
    for names, rows in (({}, 500), ({"names": ("x_test", "y_test")}, 9)):
        found = data.npz(tmp_path / "a.npz", **names)
        np.testing.assert_array_equal(found[0], x[:rows])
        np.testing.assert_array_equal(found[1], y[:rows])
    assert len(data.npz(str(tmp_path / "a.npz"), names=("other",))) == 1


GOOD = npy(ARRAYS["floats"])
WRONG = {
    "empty": (b"", "expected a .npy header, got ValueError"),
    "a page": (b"<html>no</html>", "expected a .npy header"),
    "a version to come": (b"\x93NUMPY\x09\x00" + GOOD[8:], "expected a .npy header, got KeyError"),
    "objects": (npy(np.array([{}, 1], object)), "expected numbers or truth values, got object"),
    "text": (npy(np.array(["a"])), "expected numbers or truth values, got <U1"),
    "times": (npy(np.array(["2020"], "M8[D]")), "expected numbers or truth values, got datetime64"),
    "records": (npy(np.zeros(2, "i4,O")), "expected numbers or truth values"),
    "cut": (GOOD[:-1], "5 x 4 x float64 = 160 bytes, as the header says, got 159"),
    "trailing": (GOOD + b"x", "160 bytes, as the header says, got 161"),
    "many": (
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000000)}"),
        "1000000000 x 1000000000 x float64 = 8,000,000,000,000,000,000 bytes, "
        "as the header says, got 0",
    ),
    "negative": (
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -2)}") + bytes(16),
        "-1 x -2",
    ),
    "empty and endless": (
        header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0, {2**62})}}"),
        "expected a shape that NumPy can hold, got (0, 4611686018427387904)",
    ),
    "empty and beyond": (
        header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0, {2**80})}}"),
        "expected a shape that NumPy can hold, got (0, 1208925819614629174706176)",
    ),
    "truth": (
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}") + bytes(8),
        "expected a shape of at most 64 whole numbers, got (True,)",
    ),
    "axes": (
        header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {(1,) * 65}}}") + bytes(8),
        f"expected a shape of at most 64 whole numbers, got {(1,) * 65}",
    ),
    "code": (
        header("{'descr': __import__('os'), 'fortran_order': False, 'shape': ()}"),
        "expected a .npy header",
    ),
    "deep": (header("(" * 110), "expected a .npy header"),
    "no dtype": (
        header("{'descr': 'fish', 'fortran_order': False, 'shape': ()}"),
        "expected a .npy header",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_raise(name, tmp_path):
    content, message = WRONG[name]
    (tmp_path / "a.npy").write_bytes(content)
    pattern = f"a.npy: expected .*{re.escape(message.removeprefix('expected '))}"
    with pytest.raises(DatasetFormatError, match=pattern):
        data.npy(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("inputs.npy", content)
    pattern = "npz .* inputs.npy: expected .*" + re.escape(message[-12:])
    with pytest.raises(DatasetFormatError, match=pattern):
        data.npz(tmp_path / "a.npz", names=("inputs",))


@pytest.mark.parametrize("dtype", [">f4", ">i2", ">u8", ">c8", "<f8", "|u1"])
def test_arrays_have_native_byte_order(dtype, tmp_path):
    array = np.asfortranarray(np.arange(6).reshape(2, 3)).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", x=array)
    for found in (data.npy(tmp_path / "a.npy"), data.npz(tmp_path / "a.npz", names=["x"])[0]):
        assert found.dtype.isnative and found.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(found, array)
        assert found.flags.writeable


def test_names_in_an_archive_are_escaped_in_messages(tmp_path):
    np.savez(tmp_path / "a.npz", **{"\x1b]0;title\x07\n": np.zeros(3)})
    with pytest.raises(ConfigError) as caught:
        data.npz(tmp_path / "a.npz")
    assert str(caught.value).isprintable()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("\x1b[2J\n.npy", b"")
    with pytest.raises(DatasetFormatError) as caught:
        data.npz(tmp_path / "a.npz", names=["\x1b[2J\n"])
    assert r"a.npz \x1b[2J\n.npy: expected" in str(caught.value)


def test_missing_files_and_names_raise(tmp_path):
    for read, name in ((data.npy, "npy"), (data.npz, "npz")):
        with pytest.raises(ConfigError, match=f"{name} path: expected a file, got no file .*"):
            read(tmp_path / "none")
    np.savez(tmp_path / "a.npz", x=np.zeros(3), y=np.zeros(2), one=np.zeros(()))
    with pytest.raises(
        ConfigError,
        match=r"npz names: expected names among x, y, one in .*a\.npz, got inputs, targets",
    ):
        data.npz(tmp_path / "a.npz")
    for names in ("x", (), (None,)):
        with pytest.raises(ConfigError, match="npz names: expected names of arrays"):
            data.npz(tmp_path / "a.npz", names=names)
    with pytest.raises(ConfigError, match="npy path: expected a path, got NoneType"):
        data.npy(None)
    with pytest.raises(
        DatasetFormatError, match=r"as many entries in each array, got shapes \(3,\), \(2,\)"
    ):
        data.npz(tmp_path / "a.npz", names=("x", "y"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_archive_raises_or_is_loaded_unchanged(save, tmp_path):
    path, array = tmp_path / "a.npz", DRAW.integers(0, 9, (40, 30))
    save(path, inputs=array)
    for content in chain.from_iterable(damaged(path.read_bytes(), 150, DRAW)):
        path.write_bytes(content)
        try:
            (found,) = data.npz(path, names=("inputs",))
        except (ConfigError, DatasetFormatError, DatasetIntegrityError):
            continue
        np.testing.assert_array_equal(found, array)


def test_arrays_beyond_max_bytes_raise(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", inputs=np.zeros((1000, 1000)), targets=np.zeros(1000))
    assert (tmp_path / "a.npz").stat().st_size < 20_000
    message = "expected at most 8,000,000 bytes unpacked, got at least 8,000,128; "
    message += "give a larger max_bytes, if you trust the file"
    with pytest.raises(DatasetFormatError, match=message):
        data.npz(tmp_path / "a.npz", max_bytes=8_000_000)
    assert data.npz(tmp_path / "a.npz", max_bytes=8_008_256)[0].shape == (1000, 1000)


CHILD = """
import resource, sys
from fnn import data
from fnn.errors import DatasetFormatError, DatasetIntegrityError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    data.npz(sys.argv[1], names=("inputs",), max_bytes=300_000_000)
except (DatasetFormatError, DatasetIntegrityError) as error:
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(type(error).__name__, (after - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("header_size", [250_000_128, 400_000_000, 1000])
def test_a_bomb_with_a_false_size_uses_bounded_memory(header_size, tmp_path):
    length = max(header_size - 128, 1)
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({length},)}}"
    content = header(text) + bytes(400_000_000)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inputs.npy", content)
    true_size = len(content).to_bytes(4, "little")
    false_size = header_size.to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(true_size, false_size))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, path], capture_output=True, text=True, check=True
    )
    error, grown = done.stdout.split()
    assert error.startswith("Dataset")
    # Beyond max_bytes, nothing is allocated.
    allowed = 2 * header_size if header_size < 3e8 else 0
    assert int(grown) < max(allowed, 20_000_000)
