"""Plots of schedules: one line for each, in different colors."""

import numpy as np
import pytest
from PIL import Image

from fnn import lab, optim
from fnn.errors import ConfigError
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
    "suffix": ((SCHEDULES, "x.nothing"), {"steps": 5}, "path: expected a suffix among"),
    "folder": ((SCHEDULES, "nowhere/x.png"), {"steps": 5}, "path: expected a folder that exists"),
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_wrong_arguments_raise(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, options, message = WRONG_ARGUMENTS[name]
    with pytest.raises(ConfigError, match=message):
        lab.plot_schedule(*arguments, **options)
