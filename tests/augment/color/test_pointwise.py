"""New levels, against Pillow to the last bit, and against the formulas on floats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import as_floats, pictures, seen, seen_at
from PIL import Image as Pillow
from PIL import ImageEnhance, ImageOps

from fnn import augment

COUNT = 64
COLOR = pictures(COUNT)
GRAY = pictures(COUNT, (12, 10, 1), seed=1)
FACTORS = np.concatenate([[0, 1, 2], np.random.default_rng(2).uniform(0, 3, COUNT - 3)]).astype(
    np.float32
)


def by_pillow(change, images, *values):
    """What Pillow makes of each image (height, width, channels), with a value of its own each."""
    found = []
    for image, *own in zip(images, *values, strict=True):
        mode = Pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        found.append(np.asarray(change(mode, *own)).reshape(image.shape))
    return np.stack(found)


def enhance(kind):
    return lambda image, factor: kind(image).enhance(float(factor))


LUTS = {
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
@pytest.mark.parametrize("name", LUTS)
def test_bytes_are_pillows_at_any_magnitude(name, images):
    maker, change, values, whole = LUTS[name]
    expected = by_pillow(change, images, values.tolist())
    np.testing.assert_array_equal(seen_at(maker, images, values / whole), expected)


def test_every_threshold_that_is_a_level_inverts_from_that_level_on():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    thresholds = np.arange(256)
    found = seen_at(augment.solarize, np.stack([ramp] * 256), thresholds / 255)
    expected = np.where(ramp[None] < thresholds[:, None, None, None], ramp[None], 255 - ramp[None])
    np.testing.assert_array_equal(found, expected)


PLAIN = {
    "invert": (augment.invert, ImageOps.invert),
    "equalize": (augment.equalize, ImageOps.equalize),
    "autocontrast": (augment.autocontrast, ImageOps.autocontrast),
}


# So many pixels that equalize has steps of 1 and more.
@pytest.mark.parametrize(
    "images", [pictures(24, (36, 40, 3)), pictures(24, (20, 18, 1))], ids=["color", "gray"]
)
@pytest.mark.parametrize("name", PLAIN)
def test_bytes_are_pillows_whatever_the_levels(name, images):
    maker, change = PLAIN[name]
    np.testing.assert_array_equal(seen(maker(), images), by_pillow(change, images))


def below_whole_numbers():
    """(low, high, level) where float64's level * scale + offset falls below the whole number that it stands for."""
    level = np.arange(256)
    for low in range(255):
        for high in range(low + 1, 256):
            scale = 255.0 / (high - low)
            cut = np.floor(level * scale - low * scale)
            for own in level[
                (cut < (level - low) * 255 // (high - low)) & (level >= low) & (level <= high)
            ]:
                yield low, high, own


def test_autocontrast_is_pillows_where_its_quotient_falls_below_a_whole_number():
    triples = np.array(list(below_whole_numbers()))
    assert len(triples) > 1000
    some = np.random.default_rng(5).choice(triples, 3 * COUNT, replace=False)
    images = np.repeat(some.reshape(COUNT, 1, 3, 3).transpose(0, 1, 3, 2), 2, 1).astype(
        np.uint8
    )  # (.., levels, 3)
    expected = by_pillow(ImageOps.autocontrast, images)
    exact = np.stack(
        [(own.astype(int) - own.min((0, 1))) * 255 // np.ptp(own, (0, 1)) for own in images]
    )
    assert (exact != expected).sum() >= 2 * len(some)  # so that this is a test at all
    np.testing.assert_array_equal(seen(augment.autocontrast(), images), expected)


def autocontrasted(x):
    low, high = x.min((1, 2), keepdims=True), x.max((1, 2), keepdims=True)
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
    "autocontrast": (augment.autocontrast, autocontrasted),
}


@pytest.mark.parametrize("images", [COLOR, GRAY], ids=["color", "gray"])
@pytest.mark.parametrize("name", FORMULAS)
def test_floats_follow_the_formula(name, images):
    maker, formula = FORMULAS[name]
    floats = as_floats(images)
    expected = np.clip(formula(floats.astype(np.float64)), 0, 1)
    np.testing.assert_allclose(seen(maker(), floats), expected, atol=3e-6)


@pytest.mark.parametrize("exponent", [0.3, 1.0, 2.5])
def test_gamma_of_bytes_is_the_power_cut_to_a_whole_number(exponent):
    power = 255 * (COLOR / 255.0) ** exponent
    found = seen(augment.gamma(exponent), COLOR)
    assert np.abs(found - (power - 0.5)).max() < 0.5 + 1e-3


def test_floats_are_equalized_as_the_nearest_bytes():
    images = pictures(8, (36, 40, 3))
    near = (
        as_floats(images)
        + np.random.default_rng(6).uniform(-0.4, 0.4, images.shape).astype(np.float32) / 255
    )
    expected = as_floats(by_pillow(ImageOps.equalize, images))
    np.testing.assert_allclose(seen(augment.equalize(), np.clip(near, 0, 1)), expected, atol=1e-6)


def test_a_pixel_goes_through_two_tables_as_through_one_after_the_other():
    policy = augment.chain(augment.brightness(1.7), augment.invert(), augment.posterize(4.0))
    brightened = by_pillow(
        enhance(ImageEnhance.Brightness), COLOR, [float(np.float32(1.7))] * COUNT
    )
    expected = by_pillow(ImageOps.posterize, by_pillow(ImageOps.invert, brightened), [4] * COUNT)
    np.testing.assert_array_equal(seen(policy, COLOR), expected)


def test_the_slopes_by_brightness_and_gamma_are_those_of_the_formulas():
    image = as_floats(pictures(1, (6, 5, 3), seed=7))[0] * 0.6
    image[0, 0] = 0

    @jax.jit
    def slopes(magnitude):
        return [
            jax.jacfwd(lambda own, maker=maker: maker(own)(jax.random.key(0), jnp.asarray(image)))(
                magnitude
            )
            for maker in (augment.brightness, augment.gamma)
        ]

    by_factor, by_exponent = slopes(jnp.float32(1.4))
    np.testing.assert_allclose(by_factor, image, rtol=1e-6)
    inner = np.where(image > 0, image, 1).astype(np.float64)
    np.testing.assert_allclose(
        by_exponent, np.where(image > 0, inner**1.4 * np.log(inner), 0), rtol=1e-4, atol=1e-6
    )
