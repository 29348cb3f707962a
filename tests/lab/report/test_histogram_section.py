"""The section of histograms: a panel for each layer, of the steps that were measured."""

import jax
import numpy as np
import pytest
from reports import DATA, HOSTILE, Page

from fnn import diagnose, nn, optim, train
from fnn.diagnose.layer_statistics import BINS, HISTOGRAM
from fnn.lab.report.histogram_section import MAX_LAYERS, histogram_section
from fnn.lab.report.svg import report_style


def section(shares, names=None):
    with report_style():
        return histogram_section({HISTOGRAM: shares}, names)


def shares_of(steps, layers, every=1):
    """Half of the activations in the first bin, half in that above 0; NaN between."""
    shares = np.full((steps, layers, BINS), np.nan, np.float32)
    shares[::every] = 0
    shares[::every, :, 0] = 0.5
    shares[::every, :, BINS // 2] = 0.5
    return shares


def test_each_layer_has_a_panel_with_its_name():
    page = Page(section(shares_of(9, 2, every=4), ("dense_0", HOSTILE)))
    assert page.sections == ["histograms"]
    assert [tag for tag, _ in page.elements].count("figure") == 2
    assert HOSTILE in page.text and "script" not in page.tags
    # The last measured step.
    assert "At step 9, 50% are below 0, 50% beyond ±29.8" in page.text


@pytest.mark.slow
def test_a_deep_network_has_some_panels_of_its_depth():
    page = Page(section(shares_of(3, 100)))
    assert [tag for tag, _ in page.elements].count("figure") == MAX_LAYERS
    assert "layer 0" in page.text and "layer 99" in page.text
    assert "8 of 100 layers" in page.text


def test_a_single_step_and_values_that_are_not_finite_are_drawn():
    assert "<figure" in section(shares_of(1, 1))
    lost = shares_of(4, 2)
    lost[2:, 0] = np.nan
    assert "<figure" in section(lost)


def test_shares_below_0_by_rounding_are_drawn_as_0():
    shares = shares_of(3, 1)
    shares[:, :, 3] = -1e-9
    assert section(shares) == section(shares_of(3, 1))


def test_a_run_without_histograms_has_no_section():
    assert histogram_section({"loss": np.ones(3)}, None) is None
    assert section(np.full((3, 2, BINS), np.nan)) is None


@pytest.mark.slow
def test_the_histograms_of_a_run_are_drawn_with_the_names_of_its_layers():
    network = nn.chain(nn.flatten(), nn.dense(4), nn.relu(), nn.dense(3))
    recipe = train.recipe(
        network, optim.adam(0.1), instruments=diagnose.instruments("full", every=4)
    )
    result = train.run(jax.random.key(0), recipe, DATA, epochs=3, batch_size=12)
    names = diagnose.layer_names(recipe, (4, 4, 1))
    with report_style():
        page = Page(histogram_section(result.history, names))
    # A rectifier has no activation below 0.
    assert "Activations of relu_2 over time. At step 9, 0% are below 0" in page.text
