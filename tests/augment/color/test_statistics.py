"""Extremes, histograms and the rounding of Pillow, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import as_floats, pictures

from fnn.augment.color.statistics import extremes, histogram, pillow_stretch

IMAGES = pictures(16)
# (images, channels, levels)
COUNTS = np.zeros((16, 3, 256), int)
for index, channel in np.ndindex(16, 3):
    levels = IMAGES[index, ..., channel].reshape(-1)
    COUNTS[index, channel] = np.bincount(levels, minlength=256)


@pytest.mark.parametrize("images", [IMAGES, as_floats(IMAGES)], ids=["bytes", "floats"])
def test_extremes_are_the_lowest_and_the_highest_of_each_channel(images):
    low, high = jax.jit(jax.vmap(extremes))(images)
    np.testing.assert_array_equal(low, images.min((1, 2)))
    np.testing.assert_array_equal(high, images.max((1, 2)))


@pytest.mark.parametrize("images", [IMAGES, as_floats(IMAGES)], ids=["bytes", "floats"])
def test_histograms_equal_numpy(images):
    np.testing.assert_array_equal(jax.jit(jax.vmap(histogram))(images), COUNTS)


def test_histograms_are_computed_where_needed():
    needed = np.arange(16) % 3 == 0
    counts = jax.jit(jax.vmap(histogram))(IMAGES, needed)
    np.testing.assert_array_equal(counts[needed], COUNTS[needed])


def test_histograms_under_two_vmaps_are_the_same():
    counts = jax.jit(jax.vmap(jax.vmap(histogram)))(IMAGES.reshape(2, 8, *IMAGES.shape[1:]))
    np.testing.assert_array_equal(counts, COUNTS.reshape(2, 8, 3, 256))


@pytest.mark.slow
def test_the_rounding_is_that_of_float64_for_all_levels():
    grid = np.mgrid[:256, :256, :256].astype(np.int32)
    low, high, level = (array.reshape(-1) for array in grid)
    inside = (low < high) & (low <= level) & (level <= high)
    low, high, level = low[inside], high[inside], level[inside]
    scale = 255.0 / (high - low)
    expected = (level * scale + -low * scale).astype(np.int32)  # ImageOps.autocontrast
    assert (expected != (level - low) * 255 // (high - low)).sum() > 1000
    arguments = [jnp.asarray(array, jnp.float32) for array in (level, low, high)]
    found = jax.jit(pillow_stretch)(*arguments)
    np.testing.assert_array_equal(found.astype(jnp.int32), expected)
