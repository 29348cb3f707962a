"""The picture of a run: that it is there whole, shows what the history holds, and refuses what cannot be drawn."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fnn import lab
from fnn.errors import ConfigError
from fnn.lab.reports import VALID
from fnn.types import History

steps, epochs = jnp.arange(1.0, 41.0), jnp.arange(1.0, 5.0)
history = History(
    {
        "loss": 2.0 / steps,
        "accuracy": 1 - 1.0 / steps,
        "rate": jnp.linspace(1, 0, 40),
        "finite": jnp.ones(40, bool),
        "valid_accuracy": 1 - 0.5 / epochs,
        "valid_loss": 1.0 / epochs,
    }
)


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)


def test_a_picture_shows_validation_if_there_is_any(tmp_path):
    target = tmp_path / "curves.png"
    color = np.array([int(VALID[i : i + 2], 16) for i in (1, 3, 5)])
    assert lab.curves(history, target) == target
    assert (pixels(target) == color).all(1).any()
    without = History({name: values for name, values in history.items() if not name.startswith("valid_")})
    assert not (pixels(lab.curves(without, target)) == color).all(1).any()


def test_lanes_are_drawn_as_one_population(tmp_path):
    lanes = History({name: jnp.stack([values, values]) for name, values in history.items()})
    one, two = (pixels(lab.curves(h, tmp_path / "curves.png")) for h in (history, lanes))
    assert one.shape == two.shape


def test_nothing_is_left_beside_the_picture(tmp_path):
    lab.curves(history, tmp_path / "curves.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.svg"]


@pytest.mark.parametrize(("name", "message"), [
    ("curves.txt", r"path: expected a suffix among .*png.*, got curves.txt"),
    ("curves", "path: expected a suffix among"),
    ("no/curves.png", "path: expected a folder that exists"),
])  # fmt: skip
def test_a_path_that_cannot_be_is_told_before_anything_is_written(name, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        lab.curves(history, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
