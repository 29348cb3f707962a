"""HTML text: everything is escaped but markup."""

from reports import HOSTILE, Page

from fnn.lab.report.markup import Markup, element, escape, items, show, table


def test_text_and_attributes_are_escaped_and_markup_is_not():
    page = Page(element("p", HOSTILE, element("b", "<&>"), title=HOSTILE, class_="x"))
    assert [tag for tag, _ in page.elements] == ["p", "b"]
    assert page.elements[0][1] == {"title": HOSTILE, "class": "x"}
    assert page.text == f"{HOSTILE}<&>"
    assert escape(Markup("<b>")) == "<b>"


def test_control_characters_and_halves_of_surrogate_pairs_are_written_out():
    assert escape("a\x00\x1b\ud800") == r"a\x00\x1b\ud800"
    assert escape("two\nlines") == "two\nlines"


def test_columns_of_numbers_are_aligned():
    rows = [("a", 1234, 0.123456, "text"), ("b", 1, float("nan"), "12.5%")]
    page = Page(table(("name", "n", "x", "y"), rows, caption="c"))
    cells = [(tag, attributes.get("class")) for tag, attributes in page.elements]
    assert cells.count(("td", "number")) == 5 and cells.count(("td", None)) == 1
    assert "1,234" in page.text and "0.1235" in page.text


def test_numbers_have_four_digits():
    assert [show(value) for value in (1234567, 0.123456, True, "x")] == [
        "1,234,567", "0.1235", True, "x"
    ]  # fmt: skip
    assert items(["<", 2], "ol") == "<ol><li>&lt;</li><li>2</li></ol>"
