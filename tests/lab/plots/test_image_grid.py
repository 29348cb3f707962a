"""Displayable images, tiles and grids."""

import numpy as np
import pytest

from fnn.errors import ShapeError
from fnn.lab.plots.image_grid import (
    describe_nonfinite,
    describe_stretch,
    draw_grid,
    expect_images,
    tile_images,
    to_displayable,
)

BYTES = np.arange(5 * 2 * 3 * 3).reshape(5, 2, 3, 3).astype(np.uint8)


def test_bytes_and_floats_in_0_1_are_unchanged():
    assert to_displayable(BYTES) is BYTES
    floats = (BYTES / 255).astype(np.float32)
    np.testing.assert_array_equal(to_displayable(floats), floats)


def test_standardized_images_are_stretched_all_alike():
    shown = to_displayable(np.array([-3.0, -1.0, 1.0]).reshape(3, 1, 1, 1))
    np.testing.assert_allclose(shown.ravel(), [0, 0.5, 1])


def test_the_caption_says_which_values_are_black_and_white():
    images = np.linspace(-3, 2, 101)[:, None, None, None]
    images[50] = np.nan
    assert describe_stretch(images) == "; black is -2.95, white is 1.95"
    assert describe_stretch(np.full((2, 3, 3, 1), np.inf)) == ""
    assert describe_stretch(BYTES) == describe_stretch(BYTES / 255) == ""


def test_an_outlier_does_not_make_the_others_black():
    images = np.random.default_rng(0).normal(size=(30, 8, 8, 1))
    images[3, 2, 2] = 1000
    shown = to_displayable(images)
    assert 0.4 < np.median(shown) < 0.6
    assert shown.std() > 0.15


def test_the_opacity_of_an_image_is_left_out():
    images = np.full((1, 2, 2, 4), 200, np.uint8)
    images[..., 3] = 0
    np.testing.assert_array_equal(to_displayable(images), images[..., :3])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_that_are_not_finite_are_magenta(channels):
    magenta = [1, 0, 1]
    pixels = np.array([np.nan, -1.0, 1.0, np.inf]).reshape(4, 1, 1, 1)
    images = np.repeat(pixels, channels, -1)
    shown = to_displayable(images)
    wanted = [magenta, [0, 0, 0], [1, 1, 1], magenta]
    np.testing.assert_allclose(shown.reshape(4, 3), wanted)
    assert describe_nonfinite(images) == "; magenta: not finite, in 2 images"
    # One channel of a pixel is enough.
    images[1, ..., 0] = -np.inf
    np.testing.assert_array_equal(to_displayable(images)[1].ravel(), magenta)
    assert (to_displayable(np.full((1, 2, 2, channels), np.nan)) == magenta).all()
    tiles = tile_images(images, columns=4)
    assert tiles.dtype == np.uint8 and (tiles[1, 1] == [255, 0, 255]).all()


def test_finite_images_have_no_note():
    assert describe_nonfinite(BYTES) == describe_nonfinite(BYTES / 255) == ""


@pytest.mark.parametrize("channels", [2, 5])
def test_other_numbers_of_channels_are_averaged(channels):
    images = np.random.default_rng(0).uniform(size=(2, 3, 3, channels))
    np.testing.assert_allclose(to_displayable(images), images.mean(-1, keepdims=True), rtol=1e-6)


def test_tiles_are_in_rows_and_enlarged_by_a_whole_factor():
    one = tile_images(BYTES, columns=2)
    assert one.shape == (3 * (2 * 22 + 2), 2 * (3 * 22 + 2), 3) and one.dtype == np.uint8
    for index, image in enumerate(BYTES):
        top, left = 46 * (index // 2), 68 * (index % 2)
        tile = one[top : top + 46, left : left + 68]
        np.testing.assert_array_equal(tile[1:-1, 1:-1], image.repeat(22, 0).repeat(22, 1))
        assert {*tile[0].ravel(), *tile[-1].ravel(), *tile[:, 0].ravel(), *tile[:, -1].ravel()} == {
            128
        }
    assert (one[92:, 68:] == 128).all()
    np.testing.assert_array_equal(tile_images(BYTES / np.float32(255), columns=2), one)
    assert tile_images(np.zeros((100, 70, 70, 1))).shape == (4 * 72, 8 * 72, 1)


def test_a_grid_has_the_images_and_titles_and_no_empty_cells():
    figure, target = draw_grid("here", None, BYTES, list("abcde"), "five")
    assert target is None and figure.get_suptitle() == "five"
    assert [axes.get_title() for axes in figure.axes] == list("abcde")
    for axes, image in zip(figure.axes, BYTES, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)


@pytest.mark.parametrize("shape", [(4, 4, 1), (0, 4, 4, 1), (2, 4, 4), ()])
def test_an_array_that_is_not_a_batch_of_images_raises(shape):
    with pytest.raises(
        ShapeError, match=r"here: expected \(n, height, width, channels\), got .*add a batch axis"
    ):
        expect_images("here", np.zeros(shape))
