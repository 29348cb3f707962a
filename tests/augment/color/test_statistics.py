"""Extremes, histograms and Pillow's rounding, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import as_floats, pictures

from fnn.augment.color.statistics import extremes, histogram, pillows_rounding

IMAGES = pictures(16)
COUNTS = np.stack(
    [[np.bincount(image[..., k].reshape(-1), minlength=256) for k in range(3)] for image in IMAGES]
)


@pytest.mark.parametrize("images", [IMAGES, as_floats(IMAGES)], ids=["bytes", "floats"])
def test_extremes_are_the_lowest_and_the_highest_of_each_channel(images):
    low, high = jax.jit(jax.vmap(extremes))(images)
    np.testing.assert_array_equal(low, images.min((1, 2)))
    np.testing.assert_array_equal(high, images.max((1, 2)))


@pytest.mark.parametrize("images", [IMAGES, as_floats(IMAGES)], ids=["bytes", "floats"])
def test_a_histogram_is_numpys_count(images):
    np.testing.assert_array_equal(jax.jit(jax.vmap(histogram))(images), COUNTS)


def test_a_histogram_is_there_wherever_it_is_needed():
    needed = np.arange(16) % 3 == 0
    counts = jax.jit(jax.vmap(histogram))(IMAGES, needed)
    np.testing.assert_array_equal(counts[needed], COUNTS[needed])


def test_a_histogram_is_the_same_through_two_maps():
    counts = jax.jit(jax.vmap(jax.vmap(histogram)))(IMAGES.reshape(2, 8, *IMAGES.shape[1:]))
    np.testing.assert_array_equal(counts, COUNTS.reshape(2, 8, 3, 256))


def test_rounding_is_that_of_float64_for_all_levels_there_are():
    low, high, level = (own.reshape(-1) for own in np.mgrid[:256, :256, :256].astype(np.int32))
    inside = (low < high) & (low <= level) & (level <= high)
    low, high, level = low[inside], high[inside], level[inside]
    scale = 255.0 / (high - low)
    expected = (level * scale + -low * scale).astype(np.int32)  # ImageOps.autocontrast
    assert (expected != (level - low) * 255 // (high - low)).sum() > 1000
    found = jax.jit(pillows_rounding)(
        *(jnp.asarray(own, jnp.float32) for own in (level, low, high))
    )
    np.testing.assert_array_equal(found.astype(jnp.int32), expected)
