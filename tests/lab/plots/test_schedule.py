"""Plots of schedules: one line for each, in different colors."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fnn import lab, optim
from fnn.errors import ConfigError, ShapeError
from fnn.lab.plots.figure import PALETTE

SCHEDULES = {"cosine": optim.cosine(0.1, steps=50), "constant": optim.constant(0.05)}


def has_color(path, color):
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return (pixels == [int(color[i : i + 2], 16) for i in (1, 3, 5)]).all(1).any()


def test_each_schedule_has_a_line_of_another_color(tmp_path):
    both, one = tmp_path / "both.png", tmp_path / "one.png"
    lab.plot_schedule(SCHEDULES, both, steps=60)
    lab.plot_schedule(SCHEDULES["cosine"], one, steps=60)
    assert [[has_color(path, color) for color in PALETTE[:3]] for path in (both, one)] == [
        [True, True, False],
        [True, False, False],
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both.png", "one.png"]


def test_without_a_path_the_figure_is_returned():
    (axes,) = lab.plot_schedule(SCHEDULES, steps=60).axes
    assert [line.get_label() for line in axes.lines] == list(SCHEDULES)
    np.testing.assert_allclose(
        axes.lines[0].get_ydata(), [SCHEDULES["cosine"](step) for step in range(61)], rtol=1e-5
    )


WRONG_ARGUMENTS = {
    "no schedule": (({"a": 0.1}, "x.png"), {"steps": 5}, "plot_schedule a: expected a function"),
    "steps": ((SCHEDULES, "x.png"), {"steps": 0}, "plot_schedule steps: expected >= 1"),
    "none": (({}, "x.png"), {"steps": 5}, "plot_schedule: .*, or some by name, got none"),
    "no path": ((SCHEDULES, 5), {"steps": 5}, "path: expected a path, got int"),
    "suffix": ((SCHEDULES, "x.nothing"), {"steps": 5}, "path: expected a suffix among"),
    "folder": ((SCHEDULES, "nowhere/x.png"), {"steps": 5}, "path: expected a folder that exists"),
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_wrong_arguments_raise(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, options, message = WRONG_ARGUMENTS[name]
    with pytest.raises(ConfigError, match=message):
        lab.plot_schedule(*arguments, **options)


def test_a_rate_of_several_numbers_raises():
    with pytest.raises(ShapeError, match=r"plot_schedule b: expected one rate .* got shape \(3,\)"):
        lab.plot_schedule({"b": lambda step: jnp.ones(3)}, steps=5)


def legend_texts(figure):
    return [text.get_text().removeprefix("\u200b") for text in figure.legends[0].get_texts()]


def test_names_that_begin_with_an_underscore_are_in_the_legend():
    figure = lab.plot_schedule({"_warm": SCHEDULES["cosine"], "b": optim.constant(1.0)}, steps=10)
    assert legend_texts(figure) == ["_warm", "b"]


def test_steps_without_a_finite_rate_are_marked():
    figure = lab.plot_schedule(lambda step: jnp.where(step > 50, jnp.nan, 1e-3), steps=100)
    (axes,) = figure.axes
    assert axes.get_xlim()[1] >= 100
    assert axes.lines[1].get_xdata().tolist() == list(range(51, 101))


def test_rates_below_0_are_visible():
    (axes,) = lab.plot_schedule(lambda step: 1.0 - step / 5, steps=10).axes
    assert axes.get_ylim()[0] < -1


def test_peaks_far_apart_have_a_logarithmic_axis():
    rates = {str(rate): optim.constant(rate) for rate in (1.0, 0.1, 0.01, 1e-4)}
    (axes,) = lab.plot_schedule(rates, steps=10).axes
    assert axes.get_yscale() == "log"
    assert "log" in axes.get_ylabel()


@pytest.mark.slow
def test_many_schedules_differ_and_are_all_in_the_legend():
    many = {f"schedule number {index}": optim.constant(0.1 + index) for index in range(56)}
    figure = lab.plot_schedule(many, steps=3)
    (axes,) = figure.axes
    styles = {(line.get_color(), str(line._dash_pattern)) for line in axes.lines}
    assert len(styles) == 56
    assert legend_texts(figure) == list(many)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.y0 >= 0 and box.x1 <= figure.bbox.width
    assert axes.get_window_extent().width > figure.dpi * 5
