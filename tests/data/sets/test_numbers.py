"""Numbers in tables keep their values, or raise an error."""

import numpy as np
import pytest

from fnn import data
from fnn.errors import DatasetFormatError


@pytest.fixture
def read(tmp_path):
    """A function that writes a table and loads it."""

    def write_and_read(content):
        path = tmp_path / "table.csv"
        path.write_text(content)
        return data.csv(path, target="y")

    return write_and_read


@pytest.mark.parametrize("targets", [("1_0", "1_1", "2_0"), ("\u0661", "\u0662"), ("0b1", "0x1")])
def test_syntax_of_programming_languages_is_text(read, targets):
    (_, labels), classes = read("a,y\n" + "".join(f"0,{one}\n" for one in targets))
    assert classes == tuple(sorted(targets)) and labels.tolist() == list(range(len(targets)))
    for one in targets:
        with pytest.raises(DatasetFormatError, match=f"a: expected a finite .* got '{one}'"):
            read(f"a,y\n{one},0\n")


WHOLE = [0, -7, 2**24, 2**24 + 1, 1_700_000_001, -(2**31), 2**31, 2**53, -(2**53) + 1]


@pytest.mark.parametrize("number", WHOLE)
def test_whole_numbers_keep_their_values(read, number):
    (inputs, targets), _ = read(f"a,y\n{number},{number}\n0.5,1\n")
    assert inputs.ravel().tolist() == [number, 0.5] and targets.tolist() == [number, 1]
    assert inputs.dtype == (np.float32 if float(np.float32(number)) == number else np.float64)
    assert targets.dtype == (np.int32 if -(2**31) < number < 2**31 else np.int64)
    (_, targets), _ = read(f"a,y\n0,{number}\n0,0.5\n")
    assert targets.tolist() == [number, 0.5]


@pytest.mark.parametrize(
    ("written", "dtype"),
    [("1.700000001e9", np.float64), ("-1.6000000015E12", np.float64), ("6.02e23", np.float32)],
)
def test_the_digits_of_large_numbers_with_an_exponent_are_kept(read, written, dtype):
    (inputs, targets), _ = read(f"a,y\n{written},{written}\n1,0.5\n")
    assert inputs.dtype == targets.dtype == dtype
    assert inputs[0, 0] == targets[0] == dtype(written)


def test_whole_targets_of_64_bits_keep_their_values(read):
    whole = [2**63 - 1, -(2**63), 2**53 + 1]
    (_, targets), _ = read("a,y\n" + "".join(f"0,{one}\n" for one in whole))
    assert targets.tolist() == whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,y\n9007199254740993,0\n", "line 2, a: expected a whole number of float64, got '9007"),
        ("a,y\n0,9223372036854775808\n", "y: expected whole numbers of int64, got '9223372"),
        ("a,y\n0,9007199254740993\n0,0.5\n", "y: expected a whole number of float64, got '9007"),
    ],
)
def test_whole_numbers_that_no_dtype_holds_raise(read, content, message):
    with pytest.raises(DatasetFormatError, match=message):
        read(content)
