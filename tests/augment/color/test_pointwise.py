"""Augmentations of levels equal Pillow for bytes, and their formulas for floats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import as_floats, augmented, augmented_at, pictures
from PIL import Image as Pillow
from PIL import ImageEnhance, ImageOps

from fnn import augment

COUNT = 64
COLOR = pictures(COUNT)
GRAY = pictures(COUNT, (12, 10, 1), seed=1)
RANDOM_FACTORS = np.random.default_rng(2).uniform(0, 3, COUNT - 3)
FACTORS = np.concatenate([[0, 1, 2], RANDOM_FACTORS]).astype(np.float32)


def by_pillow(change, images, *values):
    """Each image (height, width, channels) changed by Pillow, with its value if there are any."""
    found = []
    for image, *arguments in zip(images, *values, strict=True):
        picture = Pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        found.append(np.asarray(change(picture, *arguments)).reshape(image.shape))
    return np.stack(found)


def enhance(kind):
    return lambda image, factor: kind(image).enhance(float(factor))


WITH_MAGNITUDE = {
    "posterize": (augment.posterize, ImageOps.posterize, 1 + np.arange(COUNT) % 8, 1),
    "solarize": (
        augment.solarize,
        ImageOps.solarize,
        np.random.default_rng(3).integers(0, 256, COUNT),
        255,
    ),
    "brightness": (augment.brightness, enhance(ImageEnhance.Brightness), FACTORS, 1),
    "contrast": (augment.contrast, enhance(ImageEnhance.Contrast), FACTORS, 1),
}


@pytest.mark.parametrize("images", [COLOR, GRAY], ids=["color", "gray"])
@pytest.mark.parametrize("name", WITH_MAGNITUDE)
def test_bytes_equal_pillow_at_any_magnitude(name, images):
    maker, change, values, scale = WITH_MAGNITUDE[name]
    expected = by_pillow(change, images, values.tolist())
    np.testing.assert_array_equal(augmented_at(maker, images, values / scale), expected)


def test_thresholds_that_are_levels_are_exact():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    thresholds = np.arange(256)
    found = augmented_at(augment.solarize, np.stack([ramp] * 256), thresholds / 255)
    expected = np.where(ramp[None] < thresholds[:, None, None, None], ramp[None], 255 - ramp[None])
    np.testing.assert_array_equal(found, expected)


WITHOUT_MAGNITUDE = {
    "invert": (augment.invert, ImageOps.invert),
    "equalize": (augment.equalize, ImageOps.equalize),
    "autocontrast": (augment.autocontrast, ImageOps.autocontrast),
}


# Enough pixels for steps >= 1 in equalize.
@pytest.mark.parametrize(
    "images", [pictures(24, (36, 40, 3)), pictures(24, (20, 18, 1))], ids=["color", "gray"]
)
@pytest.mark.parametrize("name", WITHOUT_MAGNITUDE)
def test_bytes_equal_pillow_at_any_levels(name, images):
    maker, change = WITHOUT_MAGNITUDE[name]
    np.testing.assert_array_equal(augmented(maker(), images), by_pillow(change, images))


def rounding_errors():
    """(low, high, level) whose level * scale + offset in float64 is below the exact quotient."""
    level = np.arange(256)
    for low in range(255):
        for high in range(low + 1, 256):
            scale = 255.0 / (high - low)
            stretched = np.floor(level * scale - low * scale)
            exact = (level - low) * 255 // (high - low)
            in_range = (level >= low) & (level <= high)
            for number in level[(stretched < exact) & in_range]:
                yield low, high, number


def test_autocontrast_has_the_rounding_errors_of_pillow():
    triples = np.array(list(rounding_errors()))
    assert len(triples) > 1000
    chosen = np.random.default_rng(5).choice(triples, 3 * COUNT, replace=False)
    # Two equal rows of three pixels with three channels: each channel has low, high and level.
    rows = chosen.reshape(COUNT, 1, 3, 3).transpose(0, 1, 3, 2)
    images = np.repeat(rows, 2, 1).astype(np.uint8)
    expected = by_pillow(ImageOps.autocontrast, images)
    low = images.min((1, 2), keepdims=True).astype(int)
    high = images.max((1, 2), keepdims=True).astype(int)
    exact = (images - low) * 255 // (high - low)
    assert (exact != expected).sum() >= 2 * len(chosen)  # the errors do occur
    np.testing.assert_array_equal(augmented(augment.autocontrast(), images), expected)


def autocontrast(x):
    low = x.min((1, 2), keepdims=True)
    high = x.max((1, 2), keepdims=True)
    return np.where(high > low, (x - low) / np.where(high > low, high - low, 1), x)


def mean_of(x):
    gray = x @ np.array([0.299, 0.587, 0.114]) if x.shape[-1] == 3 else x[..., 0]
    return gray.mean((1, 2))[:, None, None, None]


FORMULAS = {
    "brightness": (lambda: augment.brightness(1.3), lambda x: 1.3 * x),
    "contrast": (lambda: augment.contrast(1.3), lambda x: mean_of(x) + 1.3 * (x - mean_of(x))),
    "gamma": (lambda: augment.gamma(1.7), lambda x: x**1.7),
    "invert": (augment.invert, lambda x: 1 - x),
    "solarize": (lambda: augment.solarize(0.4), lambda x: np.where(x >= np.float32(0.4), 1 - x, x)),
    "posterize": (lambda: augment.posterize(3.0), lambda x: np.minimum(np.floor(x * 8), 7) / 8),
    "autocontrast": (augment.autocontrast, autocontrast),
}


@pytest.mark.parametrize("images", [COLOR, GRAY], ids=["color", "gray"])
@pytest.mark.parametrize("name", FORMULAS)
def test_floats_equal_the_formula(name, images):
    maker, formula = FORMULAS[name]
    floats = as_floats(images)
    expected = np.clip(formula(floats.astype(np.float64)), 0, 1)
    np.testing.assert_allclose(augmented(maker(), floats), expected, atol=3e-6)


@pytest.mark.parametrize("exponent", [0.3, 1.0, 2.5])
def test_gamma_of_bytes_is_the_power_rounded_down(exponent):
    power = 255 * (COLOR / 255.0) ** exponent
    found = augmented(augment.gamma(exponent), COLOR)
    assert np.abs(found - (power - 0.5)).max() < 0.5 + 1e-3


def test_floats_are_equalized_as_the_nearest_bytes():
    images = pictures(8, (36, 40, 3))
    noise = np.random.default_rng(6).uniform(-0.4, 0.4, images.shape).astype(np.float32)
    near = np.clip(as_floats(images) + noise / 255, 0, 1)
    expected = as_floats(by_pillow(ImageOps.equalize, images))
    np.testing.assert_allclose(augmented(augment.equalize(), near), expected, atol=1e-6)


def test_a_chain_of_level_changes_equals_the_single_changes():
    policy = augment.chain(augment.brightness(1.7), augment.invert(), augment.posterize(4.0))
    factors = [float(np.float32(1.7))] * COUNT
    brightened = by_pillow(enhance(ImageEnhance.Brightness), COLOR, factors)
    inverted = by_pillow(ImageOps.invert, brightened)
    expected = by_pillow(ImageOps.posterize, inverted, [4] * COUNT)
    np.testing.assert_array_equal(augmented(policy, COLOR), expected)


def test_gradients_by_brightness_and_gamma_equal_the_formulas():
    image = as_floats(pictures(1, (6, 5, 3), seed=7))[0] * 0.6
    image[0, 0] = 0

    @jax.jit
    def slopes(magnitude):
        results = []
        for maker in (augment.brightness, augment.gamma):

            def change(magnitude, maker=maker):
                return maker(magnitude)(jax.random.key(0), jnp.asarray(image))

            results.append(jax.jacfwd(change)(magnitude))
        return results

    by_factor, by_exponent = slopes(jnp.float32(1.4))
    np.testing.assert_allclose(by_factor, image, rtol=1e-6)
    positive = np.where(image > 0, image, 1).astype(np.float64)
    expected = np.where(image > 0, positive**1.4 * np.log(positive), 0)
    np.testing.assert_allclose(by_exponent, expected, rtol=1e-4, atol=1e-6)
