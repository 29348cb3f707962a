"""3-Augment: a flip, one of three degradations, and color jitter."""

import re

import jax
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from pictures import apply_draws, draws, pictures
from PIL import Image as Pillow
from PIL import ImageOps

from fnn import augment
from fnn.errors import ConfigError

SHAPE = (20, 18, 3)


def test_the_three_degradations_are_equally_likely_and_independent_of_the_flip():
    flip, (choice,), jitter = draws(augment.three_augment(strength=0.3), 3000, SHAPE)
    table = np.zeros((2, 3))
    np.add.at(table, (flip["flipped"].astype(int), choice["which"]), 1)
    assert scipy.stats.chisquare(table.ravel()).pvalue > 1e-3
    sigma = choice["drawn"][2]["sigma"]
    assert scipy.stats.kstest(sigma, scipy.stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3
    for name in ("brightness", "contrast", "saturation"):
        assert scipy.stats.kstest(jitter[name], scipy.stats.uniform(0.7, 0.6).cdf).pvalue > 1e-3
    assert set(jitter["hue"]) == {0}


def test_an_image_is_gray_solarized_or_blurred():
    # Strength 0 leaves out the jitter.
    images = pictures(12, SHAPE)
    policy = augment.three_augment(strength=0.0)
    drawn = jax.tree.map(np.array, draws(policy, 12, SHAPE))
    flip, (choice,), _ = drawn
    flip["flipped"][:] = np.arange(12) % 2 == 1
    choice["which"][:] = np.arange(12) // 2 % 3
    found = apply_draws(policy, drawn, images)
    for k, result in enumerate(found):
        image = images[k, :, ::-1] if flip["flipped"][k] else images[k]
        pillow = Pillow.fromarray(image)
        option = choice["which"][k]
        if option == 0:
            gray = ImageOps.grayscale(pillow).convert("RGB")
            np.testing.assert_array_equal(result, np.asarray(gray))
        elif option == 1:
            solarized = ImageOps.solarize(pillow, 128)
            np.testing.assert_array_equal(result, np.asarray(solarized))
        else:
            sigma = choice["drawn"][2]["sigma"][k]
            widths = {"sigma": (sigma, sigma, 0), "radius": (5, 5, 0)}
            blurred = scipy.ndimage.gaussian_filter(image.astype(float), mode="mirror", **widths)
            assert np.abs(result - blurred).max() < 0.51


def test_a_negative_strength_raises():
    message = "three_augment strength: expected a number in [0, inf), got -0.1"
    with pytest.raises(ConfigError, match=re.escape(message)):
        augment.three_augment(strength=-0.1)
