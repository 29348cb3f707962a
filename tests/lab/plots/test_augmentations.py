"""Contact sheets of augmentations, read back from the written picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fnn import augment, lab
from fnn.errors import ConfigError, ShapeError

RED = np.full((3, 8, 12, 3), (200, 30, 30), np.uint8)


def colors(path):
    """The frequent colors of a picture, except white."""
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return {
        tuple(color.tolist()) for color, count in zip(found, counts, strict=True) if count > 2000
    } - {(255,) * 3}


def test_the_sheet_shows_the_images_and_the_draws(tmp_path):
    lab.plot_augmentations(augment.invert(), RED, tmp_path / "one.png", draws=2)
    assert colors(tmp_path / "one.png") == {(200, 30, 30), (55, 225, 225)}


def test_several_policies_have_one_row_each(tmp_path):
    rows = {
        "invert": augment.invert(),
        "dark": augment.brightness(0.5),
        "normalize": augment.normalize([0.5] * 3, [1] * 3),
    }
    target = tmp_path / "rows.png"
    lab.plot_augmentations(rows, RED[:1], target, key=jax.random.key(1), draws=1)
    assert {(200, 30, 30), (55, 225, 225), (100, 15, 15)} <= colors(target)


def test_without_a_path_the_figure_is_returned(tmp_path):
    figure = lab.plot_augmentations(augment.invert(), RED[:1], draws=2)
    shown = [axes.images[0].get_array() for axes in figure.axes]
    np.testing.assert_array_equal(shown, [RED[0], 255 - RED[0], 255 - RED[0]])


@pytest.mark.parametrize(
    ("policy", "images", "path", "error", "message"),
    [
        ({}, RED, "a.png", ConfigError, "plot_augmentations: .*, or some by name, got none"),
        (3, RED, "a.png", ConfigError, "plot_augmentations: expected an augmentation"),
        ({"b": 3}, RED, "a.png", ConfigError, "plot_augmentations b: expected an augmentation"),
        (
            augment.invert(),
            RED[0],
            "a.png",
            ShapeError,
            r"plot_augmentations images: expected \(n, height, width, channels\)",
        ),
        (
            augment.invert(),
            RED.astype(np.float32),
            "a.png",
            ConfigError,
            r"plot_augmentations images: expected \[0, 1\], got max 200",
        ),
        (
            augment.invert(),
            jnp.asarray(RED),
            "a.pngg",
            ConfigError,
            "path: expected a suffix among",
        ),
    ],
)
def test_wrong_arguments_raise_and_nothing_is_written(
    policy, images, path, error, message, tmp_path
):
    with pytest.raises(error, match=message):
        lab.plot_augmentations(policy, images, tmp_path / path)
    assert list(tmp_path.iterdir()) == []
