"""Patches, against windows cut by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnn import data
from fnn.errors import ConfigError, ShapeError

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 7, 6, 2), np.uint8)


def by_hand(images, size, stride):
    (_, height, width, _), (tall, wide), (down, right) = images.shape, size, stride
    return np.stack(
        [
            image[top : top + tall, left : left + wide]
            for image in images
            for top in range(0, height - tall + 1, down)
            for left in range(0, width - wide + 1, right)
        ]
    )


pairs = st.tuples(st.integers(1, 6), st.integers(1, 6))


@settings(max_examples=25, deadline=None)
@given(pairs, pairs)
def test_patches_are_those_cut_by_hand(size, stride):
    np.testing.assert_array_equal(data.patches(IMAGES, size, stride=stride), by_hand(IMAGES, size, stride))


@pytest.mark.parametrize("images", [IMAGES, IMAGES / np.float32(255), jnp.asarray(IMAGES, jnp.bfloat16)])
def test_one_int_counts_for_both_axes_and_the_dtype_stays(images):
    cut = data.patches(images, 3, stride=2)
    assert cut.dtype == images.dtype and cut.shape == (3 * 3 * 2, 3, 3, 2)
    np.testing.assert_array_equal(cut, by_hand(np.asarray(images), (3, 3), (2, 2)))
    np.testing.assert_array_equal(jax.jit(lambda images: data.patches(images, 3, stride=2))(images), cut)


def test_patches_as_large_as_the_image_are_the_image():
    np.testing.assert_array_equal(data.patches(IMAGES, (7, 6)), IMAGES)


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        (IMAGES[0], {"size": 3}, ShapeError, r"patches images: expected rank 4 .*got \(7, 6, 2\)"),
        (IMAGES, {"size": 7}, ShapeError, r"patches size: expected at most the image's \(7, 6\), got \(7, 7\)"),
        (IMAGES, {"size": 0}, ConfigError, "patches size: expected >= 1, got 0"),
        (IMAGES, {"size": 2.5}, ConfigError, "patches size: expected a whole number"),
        (IMAGES, {"size": 2, "stride": 0}, ConfigError, "patches stride: expected >= 1, got 0"),
    ],
)
def test_a_mistake_is_told(images, options, error, message):
    with pytest.raises(error, match=message):
        data.patches(images, **options)
