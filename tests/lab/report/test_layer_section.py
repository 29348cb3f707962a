"""The section of layers: heat maps over depth and time."""

import numpy as np
from reports import HOSTILE, Page

from fnn.lab.report.content import Series
from fnn.lab.report.layer_section import layer_section
from fnn.lab.report.svg import report_style

NAMES = ("dense_0", HOSTILE, "a/very/long/path/of/a/layer/kernel")
STEPS = np.array([1, 3, 9])


def section(**values):
    history = {name: Series(STEPS, np.asarray(value)) for name, value in values.items()}
    with report_style():
        return layer_section(history, dict.fromkeys(values, NAMES))


def test_each_instrument_has_a_map_and_each_layer_a_row():
    shares = np.array([[0.1, 0.5, 1], [0.2, 0.6, 1], [0.3, 0.7, 1]])
    page = Page(section(dead_share=shares, grad_rms=shares * 1e-3))
    # Two maps and two profiles.
    assert [tag for tag, _ in page.elements].count("figure") == 4
    assert HOSTILE in page.text and "script" not in page.tags
    assert "0.1 → 0.3" in page.text and "0.001 → 0.001" in page.text
    assert "At step 1" in page.text
    assert "log scale" in section(grad_rms=10.0 ** np.arange(9).reshape(3, 3))


def test_a_run_without_instruments_has_no_section():
    assert layer_section({"loss": Series(STEPS, np.ones(3))}, {}) is None


def test_zeros_infinities_and_single_steps_are_drawn():
    odd = np.array([[0, np.inf, 1], [np.nan, -1, 1], [0, 0, 0]])
    assert "figure" in section(grad_rms=odd, activation_mean=odd)
    assert "figure" in section(update_ratio=np.zeros((3, 3)))
    one = {"activation_std": Series(STEPS[:1], np.ones((1, 3)))}
    assert "figure" in layer_section(one, {"activation_std": NAMES})


def test_a_deep_network_has_a_bounded_table():
    deep = tuple(f"layer_{index}" for index in range(200))
    history = {"dead_share": Series(STEPS, np.ones((3, 200)))}
    page = Page(layer_section(history, {"dead_share": deep}))
    assert "The first 60 of 200." in page.text
