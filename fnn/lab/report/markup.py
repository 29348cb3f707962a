"""HTML as text: everything is escaped that was not made by these functions."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fnn.lab.plots.figure import drawable

# Elements without an end tag.
VOID = {"br", "img", "link", "meta"}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
NUMBER = re.compile(
    r"[-+]?[\d.,]+(e[-+]?\d+)?%?|nan|-?inf|[^→]{1,12} → [^→]{1,12}"
)  # text that is aligned to the right


class Markup(str):
    """HTML text, which is written as it is. All other text is escaped."""

    __slots__ = ()


def escape(text: object) -> Markup:
    """Return a value as HTML text, unchanged if it is Markup."""
    if isinstance(text, Markup):
        return text
    # Control characters are not allowed in HTML, and half of a surrogate pair in no encoding.
    lines = map(drawable, str(text).split("\n"))
    return Markup(html.escape("\n".join(lines)))


def join(parts: Iterable[object], separator: str = "") -> Markup:
    """Join parts, which are escaped unless they are Markup."""
    return Markup(separator.join(map(escape, parts)))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """Return an element.

    Args:
        tag: Its name.
        children: Text or Markup.
        attributes: Values by name; None leaves one out. `class_` is class, `http_equiv` http-equiv.
    """
    return raw_element(tag, {_attribute(name): attributes[name] for name in attributes}, children)


def raw_element(
    tag: str,
    attributes: Mapping[str, object],
    children: Iterable[object],
) -> Markup:
    """Return an element with attributes by their names in HTML."""
    assert NAME.fullmatch(tag)
    pairs = [
        f' {name}="{escape(value)}"' for name, value in attributes.items() if value is not None
    ]
    start = f"<{tag}{''.join(pairs)}>"
    if tag in VOID:
        return Markup(start)
    return Markup(f"{start}{join(children)}</{tag}>")


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def items(values: Iterable[object], tag: str = "ul") -> Markup:
    """Return a list; `tag` is ul or ol."""
    return element(tag, *(element("li", value) for value in values))


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: object = None,
) -> Markup:
    """Return a table whose first column names its rows. Numbers are aligned to the right."""
    lines = []
    aligned: set[int] = set()  # columns of numbers
    for name, *values in rows:
        cells = [element("th", name, scope="row")]
        for index, value in enumerate(values, 1):
            text = show(value)
            is_number = isinstance(text, str) and NUMBER.fullmatch(text) is not None
            if is_number:
                aligned.add(index)
            cells.append(element("td", text, class_="number" if is_number else None))
        lines.append(element("tr", *cells))
    titles = [
        element(
            "th",
            name,
            scope="col",
            class_="number" if index in aligned else None,
        )
        for index, name in enumerate(head)
    ]
    title = Markup() if caption is None else element("caption", caption)
    body = element(
        "table", title, element("thead", element("tr", *titles)), element("tbody", *lines)
    )
    return element("div", body, class_="scroll")


def show(value: Any) -> Any:
    """Return a number as text of four digits; other values as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}"


def section(name: str, title: str, *children: object) -> Markup:
    """Return a section with a heading, which links lead to by its name."""
    heading = element("h2", title)
    return element(
        "section",
        heading,
        *children,
        id=name,
    )


def notice(*children: object) -> Markup:
    """Return a paragraph of small text."""
    return element("p", *children, class_="notice")


def grid(figures: Iterable[Markup]) -> Markup:
    """Return figures in as many columns as fit."""
    return element("div", *figures, class_="grid")
