"""NumPy's files, written by NumPy; those that lie, hold objects, are damaged, or are bombs."""

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
def test_an_array_comes_as_it_was(name, version, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(npy(ARRAYS[name], version=version))
    found = data.npy(path)
    np.testing.assert_array_equal(found, ARRAYS[name])
    assert found.dtype == ARRAYS[name].dtype and found.flags.writeable


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_by_name(save, tmp_path):
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
        "1000000000 x 1000000000 x float64 = 8,000,000,000,000,000,000 bytes, as the header says, got 0",
    ),
    "negative": (
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -2)}") + bytes(16),
        "-1 x -2",
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
def test_what_is_wrong_with_an_array_is_told(name, tmp_path):
    held, message = WRONG[name]
    (tmp_path / "a.npy").write_bytes(held)
    with pytest.raises(
        DatasetFormatError,
        match=f"a.npy: expected .*{re.escape(message.removeprefix('expected '))}",
    ):
        data.npy(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("inputs.npy", held)
    with pytest.raises(
        DatasetFormatError, match="npz .* inputs.npy: expected .*" + re.escape(message[-12:])
    ):
        data.npz(tmp_path / "a.npz", names=("inputs",))


def test_files_and_names_that_are_not_there_are_told(tmp_path):
    for read, name in ((data.npy, "npy"), (data.npz, "npz")):
        with pytest.raises(
            ConfigError, match=f"{name} path: expected a file, got .*, which is none"
        ):
            read(tmp_path / "none")
    np.savez(tmp_path / "a.npz", x=np.zeros(3), y=np.zeros(2), one=np.zeros(()))
    with pytest.raises(
        ConfigError, match="npz names: expected names among x, y, one, got inputs, targets"
    ):
        data.npz(tmp_path / "a.npz")
    with pytest.raises(
        DatasetFormatError, match=r"as many entries in each array, got shapes \(3,\), \(2,\)"
    ):
        data.npz(tmp_path / "a.npz", names=("x", "y"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_of_an_archive_that_is_cut_or_flipped_nothing_wrong_is_taken(save, tmp_path):
    path, array = tmp_path / "a.npz", DRAW.integers(0, 9, (40, 30))
    save(path, inputs=array)
    for held in chain.from_iterable(damaged(path.read_bytes(), 150, DRAW)):
        path.write_bytes(held)
        try:
            (found,) = data.npz(path, names=("inputs",))
        except (ConfigError, DatasetFormatError, DatasetIntegrityError):
            continue
        np.testing.assert_array_equal(found, array)


def test_a_bomb_is_refused_by_what_it_says(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", inputs=np.zeros((1000, 1000)), targets=np.zeros(1000))
    assert (tmp_path / "a.npz").stat().st_size < 20_000
    message = "expected at most 8,000,000 bytes unpacked, got more; give a larger max_bytes, if you trust the file"
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
    print(type(error).__name__, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize("said", [250_000_128, 400_000_000, 1000])
def test_a_bomb_that_lies_about_itself_takes_no_memory(said, tmp_path):
    held = header(
        f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({max(said - 128, 1)},)}}"
    ) + bytes(400_000_000)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inputs.npy", held)
    lying = path.read_bytes().replace(len(held).to_bytes(4, "little"), said.to_bytes(4, "little"))
    path.write_bytes(lying)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, path], capture_output=True, text=True, timeout=60, check=True
    )
    error, grown = done.stdout.split()
    assert error.startswith("Dataset") and int(grown) < max(
        2 * said if said < 3e8 else 0, 20_000_000
    )
