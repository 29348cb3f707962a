"""Changes of color, against Pillow to the last bit, and against the standard library's color wheel."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import as_floats, draws, pictures, seen, seen_as, seen_at
from PIL import Image as Pillow
from PIL import ImageEnhance

from fnn import augment

COUNT = 48
COLOR = pictures(COUNT)
ALPHA = pictures(COUNT, (12, 10, 4), seed=1)
FACTORS = np.concatenate([[0, 1, 2], np.random.default_rng(2).uniform(0, 3, COUNT - 3)]).astype(
    np.float32
)
GRAY = np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize("images", [COLOR, ALPHA], ids=["three", "alpha"])
def test_saturation_of_bytes_is_pillows_color(images):
    expected = np.stack(
        [
            np.asarray(ImageEnhance.Color(Pillow.fromarray(image)).enhance(float(factor)))
            for image, factor in zip(images, FACTORS, strict=True)
        ]
    )
    np.testing.assert_array_equal(seen_at(augment.saturation, images, FACTORS), expected)


def test_saturation_of_floats_is_away_from_the_gray():
    x = as_floats(COLOR).astype(np.float64)
    gray = (x @ GRAY)[..., None]
    expected = np.clip(gray + FACTORS[:, None, None, None] * (x - gray), 0, 1)
    np.testing.assert_allclose(
        seen_at(augment.saturation, as_floats(COLOR), FACTORS), expected, atol=2e-6
    )


def test_gray_is_pillows_and_comes_with_its_chance():
    gray = np.stack([np.asarray(Pillow.fromarray(image).convert("L")) for image in COLOR])[
        ..., None
    ]
    gray = np.repeat(gray, 3, -1)
    np.testing.assert_array_equal(seen(augment.grayscale(), COLOR), gray)
    np.testing.assert_allclose(
        seen(augment.grayscale(), as_floats(COLOR)),
        (as_floats(COLOR) @ GRAY)[..., None].repeat(3, -1),
        atol=1e-6,
    )
    policy = augment.grayscale(0.3)
    drawn = draws(policy, COUNT)
    chosen = drawn["gray"][:, None, None, None]
    assert 0 < drawn["gray"].sum() < COUNT
    np.testing.assert_array_equal(seen_as(policy, drawn, COLOR), np.where(chosen, gray, COLOR))
    assert scipy.stats.binomtest(int(draws(policy, 2000)["gray"].sum()), 2000, 0.3).pvalue > 1e-3


def turned(pixel, turns):
    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
    return colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)


def test_the_hue_is_turned_on_the_color_wheel():
    turns = np.concatenate(
        [[0, 0.5, -0.5, 1 / 3, -1 / 3], np.random.default_rng(3).uniform(-0.5, 0.5, COUNT - 5)]
    )
    turns = turns.astype(np.float32)
    each = zip(as_floats(COLOR).astype(np.float64), turns.astype(np.float64), strict=True)
    expected = np.stack([np.apply_along_axis(turned, -1, image, own) for image, own in each])
    np.testing.assert_allclose(seen_at(augment.hue, as_floats(COLOR), turns), expected, atol=1e-5)
    # Bytes are cut at multiples of 1 / (256 - 0.001), as torchvision cuts them.
    levels = seen_at(augment.hue, COLOR, turns)
    assert np.abs(levels - (expected * (256 - 1e-3) - 0.5)).max() < 0.5 + 1e-2


def test_a_third_of_a_turn_changes_the_places_of_the_channels():
    np.testing.assert_array_equal(seen(augment.hue(1 / 3), COLOR), COLOR[..., [2, 0, 1]])


def test_a_shift_of_the_channels_is_added_and_rounded():
    policy = augment.rgb_shift((-0.4, 0.6))
    drawn = draws(policy, COUNT)
    by = np.stack([drawn[name] for name in ("red", "green", "blue")], -1)[:, None, None].astype(
        np.float64
    )
    expected = np.clip(COLOR / 255 + by, 0, 1)
    np.testing.assert_allclose(seen_as(policy, drawn, as_floats(COLOR)), expected, atol=1e-6)
    assert np.abs(seen_as(policy, drawn, COLOR) - 255 * expected).max() < 0.5 + 1e-3
    many = draws(policy, 4000)
    for own in many.values():
        assert scipy.stats.kstest(own, "uniform", (-0.4, 1.0)).pvalue > 1e-4
    assert np.abs(np.corrcoef(list(many.values()))[np.triu_indices(3, 1)]).max() < 0.07


# Krizhevsky et al. 2012 with the figures of fb.resnet.torch: eigenvalues, and eigenvectors in the columns.
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


def test_lighting_moves_the_colors_along_the_axes_of_imagenet():
    policy = augment.pca_lighting(0.5)
    drawn = draws(policy, COUNT)
    along = np.stack([drawn[f"axis_{k}"] for k in range(3)], -1).astype(np.float64)
    by = ((along * EIGENVALUES) @ EIGENVECTORS.T)[:, None, None]
    expected = np.clip(COLOR / 255 + by, 0, 1)
    np.testing.assert_allclose(seen_as(policy, drawn, as_floats(COLOR)), expected, atol=1e-6)
    assert np.abs(seen_as(policy, drawn, COLOR) - 255 * expected).max() < 0.5 + 1e-3
    for own in draws(policy, 4000).values():
        assert scipy.stats.kstest(own, "norm", (0, 0.5)).pvalue > 1e-4


@pytest.mark.parametrize(
    ("images", "level"), [(ALPHA, 51), (as_floats(ALPHA), np.float32(0.2))], ids=["bytes", "floats"]
)
def test_a_dropped_channel_is_flat_and_the_others_stay(images, level):
    policy = augment.channel_drop(0.6, fill=0.2)
    drawn = draws(policy, COUNT, ALPHA.shape[1:])
    gone = drawn["drops"][:, None] & (drawn["channel"][:, None] == np.arange(4)[None])
    assert {0, 1} == set(gone.sum(1))
    expected = np.where(gone[:, None, None], level, images)
    np.testing.assert_array_equal(seen_as(policy, drawn, images), expected)


def test_any_channel_is_dropped_as_often_whether_or_not_it_happens():
    drawn = draws(augment.channel_drop(0.3), 3000)
    assert scipy.stats.binomtest(int(drawn["drops"].sum()), 3000, 0.3).pvalue > 1e-3
    table = [
        np.bincount(drawn["channel"][drawn["drops"] == happens], minlength=3)
        for happens in (False, True)
    ]
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3
    assert scipy.stats.chisquare(np.sum(table, 0)).pvalue > 1e-3


def test_the_slope_by_saturation_is_the_distance_from_the_gray():
    image = 0.25 + 0.5 * as_floats(COLOR[2])
    slope = jax.jit(
        jax.jacfwd(lambda own: augment.saturation(own)(jax.random.key(0), jnp.asarray(image)))
    )
    expected = image - (image @ GRAY.astype(np.float32))[..., None]
    np.testing.assert_allclose(slope(jnp.float32(1.1)), expected, atol=1e-6)
