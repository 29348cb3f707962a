"""The table of epochs: its columns stand still."""

import math

import pytest

from fnn.lab.console.table import Table, number

NAMES = ["loss", "accuracy", "rate", "valid_loss", "valid_accuracy"]


SHOWN = {
    0.0: "0.0000",
    1.0: "1.0000",
    -0.00123: "-0.0012",
    1e-4: "1.00e-04",
    1234.5678: "1234.5678",
    123456.0: "1.23e+05",
}
SHOWN |= {12: "12", math.nan: "nan", -math.inf: "-inf", 3e-38: "3.00e-38"}


@pytest.mark.parametrize(("value", "shown"), SHOWN.items())
def test_a_number_takes_at_most_nine_characters(value, shown):
    assert number(value) == shown and len(shown) <= 9


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_every_line_has_its_figures_below_their_names(columns):
    table = Table(NAMES, columns)
    head = table.head()
    assert (
        len(head) <= columns
        and head.split()[0] == "epoch"
        and head.split()[-2:] == ["seconds", "best"]
    )
    for scale in (1e-9, 1.0, 1e9):
        row = table.row(7, dict.fromkeys(NAMES, scale), 12.3, True)
        ends = [head.index(name) + len(name) for name in (*table.names, "seconds")]
        assert all(row[end - 1] != " " and row[end : end + 1] in (" ", "") for end in ends)
        assert row.endswith("*") and row.index("*") == head.index("best")


def test_where_room_is_scarce_validation_stays():
    assert Table(NAMES, 200).names == NAMES
    assert Table(NAMES, 80).names == ["loss", "accuracy", "valid_loss", "valid_accuracy"]
    assert Table(NAMES, 60).names == ["loss", "valid_loss"]
