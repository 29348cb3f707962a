"""The frame of a page: policy, navigation and printing."""

from reports import HOSTILE, Page

from fnn.lab.report.markup import Markup, section
from fnn.lab.report.page import POLICY, STYLE, page


def test_sections_are_linked_and_text_is_escaped():
    text = page((HOSTILE, HOSTILE), [], [section("a", HOSTILE), section("b", "B")], Markup())
    found = Page(text)
    assert found.attributes("href") == ["#a", "#b"]
    assert found.text.count(HOSTILE) == 5 and "script" not in found.tags
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert found.attributes("content")[0] == POLICY
    assert "width=device-width" in found.attributes("content")[1]


def test_the_style_has_rules_for_print_dark_screens_and_phones_and_loads_nothing():
    for rule in ("@media print", "prefers-color-scheme: dark", "max-width: 600px"):
        assert rule in STYLE
    assert "url(" not in STYLE and "@import" not in STYLE and "<" not in STYLE
    assert STYLE.count("{") == STYLE.count("}")
