"""Tables in text files against NumPy and scikit-learn; errors name the line and the column."""

import re

import numpy as np
import pytest
import sklearn.datasets
import sklearn.preprocessing

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


def test_empty_lines_before_the_names_are_skipped(read):
    (inputs, targets), _ = read("\n\na,y\n1,2\n")
    assert inputs.tolist() == [[1]] and targets.tolist() == [2]


def test_class_names_keep_every_character(read):
    (_, labels), classes = read("a,y\n1,x\0\n2,x\n")
    assert classes == ("x", "x\0") and labels.tolist() == [1, 0]


@pytest.mark.parametrize("gap", ["nan", "NaN", "inf", "-Infinity"])
def test_targets_that_are_not_finite_are_no_class_names(read, gap):
    with pytest.raises(DatasetFormatError, match="y: expected finite numbers, or names, in all"):
        read(f"a,y\n1,{gap}\n2,{gap}\n")


@pytest.mark.parametrize("gap", ["", " ", "NA", "N/A", "null", "None", "nan"])
def test_a_missing_target_is_no_class_name(read, gap):
    content = f"a,y\r\n1,cat\r\n2,{gap}\r\n3,dog\r\n"
    for missing in ("raise", "mean", 0):
        with pytest.raises(DatasetFormatError, match=rf"y: .*, got '{gap.strip()}'; .*=\"drop\""):
            read(content, missing=missing)
    (inputs, labels), classes = read(content, missing="drop")
    assert inputs.tolist() == [[1], [3]] and labels.tolist() == [0, 1] and classes == ("cat", "dog")
    with pytest.raises(DatasetFormatError, match="y: expected finite numbers, or names"):
        read(f"a,y\n1,{gap}\n")
    names = {"y": ("dog", gap.strip(), "cat")}
    for missing in ("raise", "drop"):
        (_, labels), classes = read(content, categories=names, missing=missing)
        assert labels.tolist() == [2, 1, 0] and classes == names["y"]


def test_columns_are_chosen_by_name(read):
    content = ",a,b,y\n0,1,2,x\n1,3,text,y\n"
    with pytest.raises(
        DatasetFormatError, match=r"name for each column .*, got none for column 1;"
    ):
        read(content)
    with pytest.raises(DatasetFormatError, match="got none for column 1;"):
        read(f"Unnamed: 0{content}")  # as pandas writes it
    (inputs, labels), _ = read(content, columns=["a"])
    assert inputs.tolist() == [[1], [3]] and labels.tolist() == [0, 1]
    (inputs, _), _ = read("a,b,c,y\n1,2,3,0\n", columns=("c", "a"))
    assert inputs.tolist() == [[3, 1]]
    for columns in (["z"], ["a", "y"], "a", [""]):
        with pytest.raises(ConfigError, match="csv columns: expected"):
            read("a,b,y\n1,2,0\n", columns=columns)


@pytest.mark.parametrize("gap", ["", " ", "NA", "nan", "null", "N/A", "None"])
def test_missing_numbers_are_filled_by_choice(read, gap):
    content = f"a,b,y\n1,{gap},0\n2,4,1\n{gap},6,2\n"
    with pytest.raises(DatasetFormatError, match=r"line 2, b: .*as by missing="):
        read(content)
    (inputs, targets), _ = read(content, missing="drop")
    assert inputs.tolist() == [[2, 4]] and targets.tolist() == [1]
    (inputs, _), _ = read(content, missing="mean")
    assert inputs.tolist() == [[1, 5], [2, 4], [1.5, 6]]
    (inputs, _), _ = read(content, missing=-1)
    assert inputs.tolist() == [[1, -1], [2, 4], [-1, 6]]
    (inputs, _), _ = read(content, missing=float("nan"))
    np.testing.assert_array_equal(inputs, [[1, np.nan], [2, 4], [np.nan, 6]])


def test_other_text_is_not_missing(read):
    for field in ("inf", "-", "1 2", "na"):
        with pytest.raises(DatasetFormatError, match="line 2, a: expected a finite number"):
            read(f"a,y\n{field},0\n", missing="mean")
    with pytest.raises(DatasetFormatError, match="a: expected some numbers to take the mean of"):
        read("a,y\nNA,0\n", missing="mean")
    for missing in ("median", True, float("inf"), None):
        with pytest.raises(ConfigError, match="csv missing: expected"):
            read("a,y\n1,0\n", missing=missing)


CATEGORIES = {"color": ("red", "green", "blue"), "y": ("z", "x", "y")}


def test_texts_are_encoded_in_the_order_of_their_categories(read):
    content = "color,a,y\nblue,5,x\nred,6,y\n"
    (inputs, labels), classes = read(content, categories=CATEGORIES)
    encoder = sklearn.preprocessing.OneHotEncoder(categories=[CATEGORIES["color"]])
    one_hot = encoder.fit_transform([["blue"], ["red"]]).toarray()
    np.testing.assert_array_equal(inputs, np.c_[one_hot, [5, 6]])
    assert inputs.dtype == np.float32 and labels.dtype == np.int32
    assert labels.tolist() == [1, 2] and classes == ("z", "x", "y")
    (inputs, _), _ = read(content, categories=CATEGORIES, encode="codes")
    assert inputs.tolist() == [[2, 5], [0, 6]]
    gaps = "color,a,y\n,5,x\nred,NA,y\n"
    (inputs, _), _ = read(gaps, categories=CATEGORIES, missing=9)
    assert inputs.tolist() == [[0, 0, 0, 5], [1, 0, 0, 9]]
    (inputs, _), _ = read(gaps, categories=CATEGORIES, missing="mean", encode="codes")
    assert inputs.tolist() == [[-1, 5], [0, 5]]


def test_texts_beyond_the_categories_raise(read):
    for content in ("color,y\npink,x\n", "color,y\n,x\n"):
        with pytest.raises(DatasetFormatError, match="line 2, color: expected one of the categ"):
            read(content, categories=CATEGORIES)
    with pytest.raises(DatasetFormatError, match=r"table\.csv y: expected one of the categories z"):
        read("color,y\nred,w\n", categories=CATEGORIES)
    for categories in (
        {"color": "red"},
        {"color": ()},
        {"color": ("red", "red")},
        {"size": ("a",)},
    ):
        with pytest.raises(ConfigError, match="csv categories"):
            read("color,y\nred,w\n", categories=categories)
    with pytest.raises(ConfigError, match="csv encode"):
        read("y\n1\n", encode="hash")


def test_names_of_columns_are_escaped_in_messages(read):
    with pytest.raises(DatasetFormatError) as caught:
        read('"\x1b]0;title\x07\nb",y\nx,1\n')
    assert r"line 3, \x1b]0;title\x07\nb: expected" in str(caught.value)


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
    for empty in ("", "\n\n", "\ufeff"):
        with pytest.raises(ConfigError, match=r"csv target: .*, got an empty file"):
            read(empty)
    for delimiter in ('"', "\n"):
        with pytest.raises(ConfigError, match=r"csv delimiter: .* other than quotes"):
            read("a,y\n1,2\n", delimiter=delimiter)
    with pytest.raises(ConfigError, match="csv path: expected a path, got NoneType"):
        data.csv(None, target="y")
    with pytest.raises(ConfigError, match="csv delimiter: expected one character, got ', '"):
        read("y\n1\n", delimiter=", ")
    with pytest.raises(ConfigError, match=r"csv path: expected a file, got no file .*"):
        data.csv(tmp_path / "none.csv", target="y")
