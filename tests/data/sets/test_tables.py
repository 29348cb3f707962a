"""Tables in text files against NumPy and scikit-learn; errors name the line and the column."""

import re

import numpy as np
import pytest
import sklearn.datasets

from fnn import data
from fnn.errors import ConfigError, DatasetFormatError


@pytest.fixture
def read(tmp_path):
    """A function that writes a table and loads it."""

    def write_and_read(content, **options):
        path = tmp_path / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return data.csv(path, **{"target": "y"} | options)

    return write_and_read


def test_class_names_become_sorted_labels(read):
    (inputs, labels), classes = read("a, y ,b\n1,dog,2.5\n-3e2,cat,0\n\n4, dog,5\n")
    np.testing.assert_array_equal(inputs, np.array([[1, 2.5], [-300, 0], [4, 5]], np.float32))
    np.testing.assert_array_equal(labels, [1, 0, 1])
    assert classes == ("cat", "dog") and (inputs.dtype, labels.dtype) == (np.float32, np.int32)
    assert inputs.flags.writeable


@pytest.mark.parametrize(
    ("targets", "dtype"),
    [
        ([1, 0, 2], np.int32),
        (["1.0", "3.0"], np.int32),
        ([0.5, 1], np.float32),
        ([3e9], np.float32),
    ],
)
def test_numeric_targets_stay_numbers(read, targets, dtype):
    (_, found), classes = read("x,y\n" + "".join(f"0,{one}\n" for one in targets))
    np.testing.assert_array_equal(found, np.array(targets, float).astype(dtype))
    assert found.dtype == dtype and classes == ()


def test_iris_is_that_of_scikit_learn(read):
    iris = sklearn.datasets.load_iris()
    rows = [
        ",".join([*map(str, row), iris.target_names[kind]])
        for row, kind in zip(iris.data, iris.target, strict=True)
    ]
    (inputs, labels), classes = read("\r\n".join(["a,b,c,d,kind", *rows]), target="kind")
    np.testing.assert_array_equal(inputs, iris.data.astype(np.float32))
    np.testing.assert_array_equal(labels, iris.target)
    assert classes == tuple(iris.target_names)


def test_quotes_byte_order_marks_and_other_delimiters(read):
    (inputs, _), classes = read('\ufeffy;"a;b"\n"o""k";1\n'.encode(), delimiter=";")
    assert inputs.tolist() == [[1.0]] and classes == ('o"k',)
    (inputs, _), _ = read("y\n1\n2\n")
    assert inputs.shape == (2, 0)


WRONG = [
    ("a,y\n1,2\n1,2,3\n", "table.csv line 3: expected 2 columns, got 3; complete the row"),
    ("a,y\n1\n", "table.csv line 2: expected 2 columns, got 1"),
    (
        "a,b,y\n1,,2\n",
        "table.csv line 2, b: expected a finite number of float32, got ''; fill it in",
    ),
    ("a,y,b\n1,2,red\n", "table.csv line 2, b: expected a finite number of float32, got 'red'"),
    ("a,y\nnan,2\n", "line 2, a: expected a finite number of float32, got 'nan'"),
    ("a,y\ninf,2\n", "line 2, a: expected a finite number of float32, got 'inf'"),
    ("a,y\n1e39,2\n", "line 2, a: expected a finite number of float32, got '1e39'"),
    ("a,y\n1,2\n1,\n", "table.csv y: expected finite numbers, or names, in all rows, got ''"),
    ("a,y\n1,cat\n1,\n", "in all rows, got"),
    ("a,y\n1,2\n1,cat\n", "in all rows, got 'cat'"),
    ("a,y\n1,2\n1,nan\n", "in all rows, got 'nan'"),
    ("a,y\n", "expected rows below the names of the columns, got 0 rows"),
    ('a,y\n1,"2\n', "expected a table in UTF-8 with delimiter ',', got unexpected end of data"),
    (b"a,y\n1,\xff\n", "expected a table in UTF-8"),
    ("a,y\n1," + "2" * 200_000, "got field larger than field limit"),
]


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_wrong_rows_raise_with_line_and_column(read, content, message):
    with pytest.raises(DatasetFormatError, match=re.escape(message)):
        read(content)


def test_missing_columns_and_files_raise(read, tmp_path):
    with pytest.raises(ConfigError, match="csv target: expected one of the columns a, b, got 'y'"):
        read("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="csv target: expected one of the columns y, y, got 'y'"):
        read("y,y\n1,2\n")
    with pytest.raises(ConfigError, match="csv target"):
        read("")
    with pytest.raises(ConfigError, match="csv delimiter: expected one character, got ', '"):
        read("y\n1\n", delimiter=", ")
    with pytest.raises(ConfigError, match=r"csv path: expected a file, got no file .*"):
        data.csv(tmp_path / "none.csv", target="y")
