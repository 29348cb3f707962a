"""The section of layers: heat maps over depth and time."""

import jax
import numpy as np
import pytest
from reports import DATA, HOSTILE, RECIPE, Page, small_run

from fnn import diagnose, train
from fnn.lab.report.content import Series
from fnn.lab.report.layer_section import _edges, layer_section, measured_ends, recorded_ends
from fnn.lab.report.svg import report_style

NAMES = ("dense_0", HOSTILE, "a/very/long/path/of/a/layer/kernel")
STEPS = np.array([1, 3, 9])


def section(**values):
    history = {name: Series(STEPS, np.asarray(value)) for name, value in values.items()}
    with report_style():
        columns = dict.fromkeys(values, NAMES)
        return layer_section(history, columns, recorded_ends(history, columns))


def test_each_instrument_has_a_map_and_each_layer_a_row():
    shares = np.array([[0.1, 0.5, 1], [0.2, 0.6, 1], [0.3, 0.7, 1]])
    page = Page(section(dead_share=shares, grad_rms=shares * 1e-3))
    # Two maps and two profiles.
    assert [tag for tag, _ in page.elements].count("figure") == 4
    assert HOSTILE in page.text and "script" not in page.tags
    assert "0.1 → 0.3" in page.text and "0.001 → 0.001" in page.text
    assert "Step 1 → step 9" in page.text
    assert "log scale" in section(grad_rms=10.0 ** np.arange(9).reshape(3, 3))


def test_a_run_without_instruments_has_no_section():
    history = {"loss": Series(STEPS, np.ones(3))}
    assert layer_section(history, {}, recorded_ends(history, {})) is None


@pytest.mark.slow
def test_layers_without_such_units_have_no_row():
    shares = np.array([[np.nan, 0.5, np.nan]] * 3)
    assert "dense_0" not in section(dead_share=shares).partition("<table")[0]
    assert "dense_0" in section(dead_share=np.full((3, 3), np.nan))


def test_zeros_infinities_and_single_steps_are_drawn():
    odd = np.array([[0, np.inf, 1], [np.nan, -1, 1], [0, 0, 0]])
    assert "figure" in section(grad_rms=odd, activation_mean=odd)
    assert "figure" in section(update_ratio=np.zeros((3, 3)))
    one = {"activation_std": Series(STEPS[:1], np.ones((1, 3)))}
    columns = {"activation_std": NAMES}
    assert "figure" in layer_section(one, columns, recorded_ends(one, columns))


def test_columns_are_between_measured_steps_up_to_the_end_of_the_run():
    steps = np.array([1, 11, 21])
    np.testing.assert_array_equal(_edges(steps, 25), [0.5, 6, 16, 25.5])
    # The run continued without values.
    np.testing.assert_array_equal(_edges(steps, 90), [0.5, 6, 16, 26])
    np.testing.assert_array_equal(_edges(steps[:1], 90), [0.5, 1.5])


def test_a_deep_network_has_a_bounded_table():
    deep = tuple(f"layer_{index}" for index in range(200))
    history = {"dead_share": Series(STEPS, np.ones((3, 200)))}
    columns = {"dead_share": deep}
    page = Page(layer_section(history, columns, recorded_ends(history, columns)))
    assert "The first 60 of 200." in page.text


def test_the_ends_are_profiles_before_and_after_training():
    result = small_run()
    ends = measured_ends(RECIPE, result.train_state, DATA)
    first = diagnose.profile(RECIPE, train.start(jax.random.key(3), RECIPE, (4, 4, 1)), DATA)
    np.testing.assert_array_equal(ends.figures["grad_rms"][0], first.grad_rms)
    assert ends.columns["grad_rms"] == first.parameters
    page = Page(layer_section({}, {}, ends))
    assert "Before training → at the end" in page.text and "dense_1/kernel" in page.text
