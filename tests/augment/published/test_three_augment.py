"""3-Augment: a flip, one change of three, and jitter."""

import re

import jax
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from pictures import draws, pictures, seen_as
from PIL import Image as Pillow
from PIL import ImageOps

from fnn import augment
from fnn.errors import ConfigError

SHAPE = (20, 18, 3)


def test_each_of_the_three_is_as_likely_whatever_else_is_drawn():
    flip, (choice,), jitter = draws(augment.three_augment(strength=0.3), 3000, SHAPE)
    table = np.zeros((2, 3))
    np.add.at(table, (flip["flipped"].astype(int), choice["which"]), 1)
    assert scipy.stats.chisquare(table.ravel()).pvalue > 1e-3
    sigma = choice["drawn"][2]["sigma"]
    assert scipy.stats.kstest(sigma, scipy.stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3
    for name in ("brightness", "contrast", "saturation"):
        assert scipy.stats.kstest(jitter[name], scipy.stats.uniform(0.7, 0.6).cdf).pvalue > 1e-3
    assert set(jitter["hue"]) == {0}


def test_an_image_is_gray_or_solarized_or_blurred():
    """Without jitter, and exactly one of them."""
    images = pictures(12, SHAPE)
    policy = augment.three_augment(strength=0.0)
    drawn = jax.tree.map(np.array, draws(policy, 12, SHAPE))
    flip, (choice,), _ = drawn
    flip["flipped"][:] = np.arange(12) % 2 == 1
    choice["which"][:] = np.arange(12) // 2 % 3
    found = seen_as(policy, drawn, images)
    for image, seen, flipped, which, sigma in zip(
        images, found, flip["flipped"], choice["which"], choice["drawn"][2]["sigma"], strict=True
    ):
        image = image[:, ::-1] if flipped else image
        pillow = Pillow.fromarray(image)
        if which == 0:
            np.testing.assert_array_equal(
                seen, np.asarray(ImageOps.grayscale(pillow).convert("RGB"))
            )
        elif which == 1:
            np.testing.assert_array_equal(seen, np.asarray(ImageOps.solarize(pillow, 128)))
        else:
            widths = {"sigma": (sigma, sigma, 0), "radius": (5, 5, 0)}
            blurred = scipy.ndimage.gaussian_filter(image.astype(float), mode="mirror", **widths)
            assert np.abs(seen - blurred).max() < 0.51


def test_a_mistake_is_told():
    with pytest.raises(
        ConfigError,
        match=re.escape("three_augment strength: expected a number in [0, inf), got -0.1"),
    ):
        augment.three_augment(strength=-0.1)
