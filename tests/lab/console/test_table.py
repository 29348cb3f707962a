"""The table of epochs: its columns have a fixed width."""

import math

import pytest

from fnn.lab.console.table import Table, format_number

NAMES = ["loss", "accuracy", "rate", "valid_loss", "valid_accuracy"]
FORMATTED = {
    0.0: "0.0000",
    1.0: "1.0000",
    -0.00123: "-0.0012",
    1e-4: "1.00e-04",
    1234.5678: "1234.5678",
    123456.0: "1.23e+05",
    12: "12",
    math.nan: "nan",
    -math.inf: "-inf",
    3e-38: "3.00e-38",
}


@pytest.mark.parametrize(("value", "text"), FORMATTED.items())
def test_a_number_has_at_most_nine_characters(value, text):
    assert format_number(value) == text
    assert len(text) <= 9


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_every_row_has_its_figures_below_their_names(columns):
    table = Table(NAMES, columns)
    head = table.head()
    assert len(head) <= columns
    assert head.split()[0] == "epoch"
    assert head.split()[-2:] == ["seconds", "best"]
    ends = [head.index(name) + len(name) for name in (*table.names, "seconds")]
    for scale in (1e-9, 1.0, 1e9):
        row = table.row(7, dict.fromkeys(NAMES, scale), 12.3, True)
        for end in ends:
            assert row[end - 1] != " "
            assert row[end : end + 1] in (" ", "")
        assert row.endswith("*")
        assert row.index("*") == head.index("best")


def test_a_narrow_table_keeps_the_loss_and_validation():
    assert Table(NAMES, 200).names == NAMES
    assert Table(NAMES, 80).names == ["loss", "accuracy", "valid_loss", "valid_accuracy"]
    assert Table(NAMES, 60).names == ["loss", "valid_loss"]
