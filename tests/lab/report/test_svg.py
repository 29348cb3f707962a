"""Figures within a page: without namespaces, with text as text, ids that occur once."""

import re

import matplotlib
import numpy as np
from reports import HOSTILE, Page

from fnn.lab.report.svg import create_panel, figure_markup, images_markup, report_style


def draw(name, label=HOSTILE):
    with report_style():
        figure, axes = create_panel()
        axes.plot([1, 2, 3], "o", rasterized=True)
        axes.fill_between([0, 1], [1, 2])
        axes.set_title(label)
        return figure_markup(name, figure, label)


def test_a_figure_has_its_text_and_no_address():
    markup = draw("a")
    page = Page(markup)
    assert page.texts.count(HOSTILE) == 2
    assert "script" not in page.tags and "style" not in page.tags and "http" not in markup
    assert {"svg", "image", "use"} <= page.tags
    assert all(link.startswith(("#", "data:image/png")) for link in page.attributes("href"))


def test_references_lead_to_ids_and_two_figures_share_none():
    first, second = Page(draw("a")), Page(draw("b"))
    for page in (first, second):
        ids = page.attributes("id")
        assert len(ids) == len(set(ids)) > 0
        targets = [link[1:] for link in page.attributes("href") if link[0] == "#"]
        targets += re.findall(r"url\(#([^)]*)\)", " ".join(page.attributes("clip-path")))
        assert set(targets) == set(ids)
    assert not set(first.attributes("id")) & set(second.attributes("id"))


def test_options_of_the_user_change_no_byte():
    before = draw("a")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": True}):
        assert draw("a") == before


def test_a_letter_without_a_font_raises_no_warning():
    assert "\ue000" in draw("a", "\ue000")


def test_images_are_reduced_and_have_titles():
    images = np.random.default_rng(0).integers(0, 256, (2, 400, 200, 3), np.uint8)
    page = Page(images_markup(images, [HOSTILE, "b"]))
    assert page.attributes("alt") == [HOSTILE, "b"]
    # 96 x 48 pixels of 3 bytes, as base64.
    assert all(len(url) < 1.4 * 96 * 48 * 3 + 500 for url in page.attributes("src"))


def test_a_wide_figure_scrolls():
    with report_style():
        figure, _ = create_panel()
        figure.set_size_inches(10, 3)
        page = Page(figure_markup("a", figure, "text"))
    assert page.elements[0][1]["class"] == "wide"
    assert page.elements[2] == ("div", {"style": "min-width:576px"})
