"""Color augmentations equal Pillow for bytes, and colorsys for the hue."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import apply_draws, as_floats, augmented, augmented_at, draws, pictures
from PIL import Image as Pillow
from PIL import ImageEnhance

from fnn import augment

COUNT = 48
COLOR = pictures(COUNT)
ALPHA = pictures(COUNT, (12, 10, 4), seed=1)
RANDOM_FACTORS = np.random.default_rng(2).uniform(0, 3, COUNT - 3)
FACTORS = np.concatenate([[0, 1, 2], RANDOM_FACTORS]).astype(np.float32)
GRAY = np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize("images", [COLOR, ALPHA], ids=["three", "alpha"])
def test_saturation_of_bytes_equals_pillow(images):
    expected = []
    for image, factor in zip(images, FACTORS, strict=True):
        enhanced = ImageEnhance.Color(Pillow.fromarray(image)).enhance(float(factor))
        expected.append(np.asarray(enhanced))
    found = augmented_at(augment.saturation, images, FACTORS)
    np.testing.assert_array_equal(found, np.stack(expected))


def test_saturation_of_floats_equals_the_formula():
    x = as_floats(COLOR).astype(np.float64)
    gray = (x @ GRAY)[..., None]
    expected = np.clip(gray + FACTORS[:, None, None, None] * (x - gray), 0, 1)
    found = augmented_at(augment.saturation, as_floats(COLOR), FACTORS)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_grayscale_equals_pillow_and_has_its_probability():
    gray = np.stack([np.asarray(Pillow.fromarray(image).convert("L")) for image in COLOR])
    gray = np.repeat(gray[..., None], 3, -1)
    np.testing.assert_array_equal(augmented(augment.grayscale(), COLOR), gray)
    floats = as_floats(COLOR)
    expected = np.repeat((floats @ GRAY)[..., None], 3, -1)
    np.testing.assert_allclose(augmented(augment.grayscale(), floats), expected, atol=1e-6)
    policy = augment.grayscale(0.3)
    drawn = draws(policy, COUNT)
    chosen = drawn["gray"][:, None, None, None]
    assert 0 < drawn["gray"].sum() < COUNT
    np.testing.assert_array_equal(apply_draws(policy, drawn, COLOR), np.where(chosen, gray, COLOR))
    assert scipy.stats.binomtest(int(draws(policy, 2000)["gray"].sum()), 2000, 0.3).pvalue > 1e-3


def rotate_hue(pixel, turns):
    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
    return colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)


def test_hue_equals_colorsys():
    random_turns = np.random.default_rng(3).uniform(-0.5, 0.5, COUNT - 5)
    turns = np.concatenate([[0, 0.5, -0.5, 1 / 3, -1 / 3], random_turns]).astype(np.float32)
    rotated = []
    for image, own_turns in zip(as_floats(COLOR).astype(np.float64), turns, strict=True):
        rotated.append(np.apply_along_axis(rotate_hue, -1, image, float(own_turns)))
    expected = np.stack(rotated)
    np.testing.assert_allclose(
        augmented_at(augment.hue, as_floats(COLOR), turns), expected, atol=1e-5
    )
    # Bytes are multiplied by 256 - 0.001 and rounded down, as in torchvision.
    levels = augmented_at(augment.hue, COLOR, turns)
    assert np.abs(levels - (expected * (256 - 1e-3) - 0.5)).max() < 0.5 + 1e-2


def test_a_third_of_a_turn_permutes_the_channels():
    np.testing.assert_array_equal(augmented(augment.hue(1 / 3), COLOR), COLOR[..., [2, 0, 1]])


def test_rgb_shifts_are_added_uniform_and_independent():
    policy = augment.rgb_shift((-0.4, 0.6))
    drawn = draws(policy, COUNT)
    shifts = np.stack([drawn[name] for name in ("red", "green", "blue")], -1).astype(np.float64)
    expected = np.clip(COLOR / 255 + shifts[:, None, None], 0, 1)
    np.testing.assert_allclose(apply_draws(policy, drawn, as_floats(COLOR)), expected, atol=1e-6)
    assert np.abs(apply_draws(policy, drawn, COLOR) - 255 * expected).max() < 0.5 + 1e-3
    many = draws(policy, 4000)
    for numbers in many.values():
        assert scipy.stats.kstest(numbers, "uniform", (-0.4, 1.0)).pvalue > 1e-4
    assert np.abs(np.corrcoef(list(many.values()))[np.triu_indices(3, 1)]).max() < 0.07


# The numbers of fb.resnet.torch: eigenvalues, and eigenvectors in the columns.
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


def test_pca_lighting_shifts_colors_along_the_axes_of_imagenet():
    policy = augment.pca_lighting(0.5)
    drawn = draws(policy, COUNT)
    coefficients = np.stack([drawn[f"axis_{k}"] for k in range(3)], -1).astype(np.float64)
    shifts = ((coefficients * EIGENVALUES) @ EIGENVECTORS.T)[:, None, None]
    expected = np.clip(COLOR / 255 + shifts, 0, 1)
    np.testing.assert_allclose(apply_draws(policy, drawn, as_floats(COLOR)), expected, atol=1e-6)
    assert np.abs(apply_draws(policy, drawn, COLOR) - 255 * expected).max() < 0.5 + 1e-3
    for numbers in draws(policy, 4000).values():
        assert scipy.stats.kstest(numbers, "norm", (0, 0.5)).pvalue > 1e-4


@pytest.mark.parametrize(
    ("images", "level"), [(ALPHA, 51), (as_floats(ALPHA), np.float32(0.2))], ids=["bytes", "floats"]
)
def test_a_dropped_channel_is_constant_and_others_are_kept(images, level):
    policy = augment.channel_drop(0.6, fill=0.2)
    drawn = draws(policy, COUNT, ALPHA.shape[1:])
    dropped = drawn["drops"][:, None] & (drawn["channel"][:, None] == np.arange(4)[None])
    assert {0, 1} == set(dropped.sum(1))
    expected = np.where(dropped[:, None, None], level, images)
    np.testing.assert_array_equal(apply_draws(policy, drawn, images), expected)


def test_the_dropped_channel_is_uniform_and_independent_of_dropping():
    drawn = draws(augment.channel_drop(0.3), 3000)
    assert scipy.stats.binomtest(int(drawn["drops"].sum()), 3000, 0.3).pvalue > 1e-3
    kept = np.bincount(drawn["channel"][~drawn["drops"]], minlength=3)
    dropped = np.bincount(drawn["channel"][drawn["drops"]], minlength=3)
    table = [kept, dropped]
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3
    assert scipy.stats.chisquare(np.sum(table, 0)).pvalue > 1e-3


def test_the_gradient_by_saturation_is_the_distance_from_gray():
    image = 0.25 + 0.5 * as_floats(COLOR[2])

    @jax.jit
    @jax.jacfwd
    def slope(factor):
        return augment.saturation(factor)(jax.random.key(0), jnp.asarray(image))

    expected = image - (image @ GRAY.astype(np.float32))[..., None]
    np.testing.assert_allclose(slope(jnp.float32(1.1)), expected, atol=1e-6)
