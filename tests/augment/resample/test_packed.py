"""Bytes packed into words and unpacked, and levels rounded half to even."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.augment.resample import packed

BYTES = np.random.default_rng(0).integers(0, 256, (3, 4, 5, packed.MAX_CHANNELS), np.uint8)


@pytest.mark.parametrize("channels", range(1, packed.MAX_CHANNELS + 1))
def test_packed_bytes_are_unpacked(channels):
    pixels = BYTES[..., :channels]
    words = jax.jit(packed.packed)(pixels)
    assert words.shape == pixels.shape[:-1] and words.dtype == jnp.uint32
    np.testing.assert_array_equal(packed.unpacked(words, channels), pixels)
    for k in range(channels):
        np.testing.assert_array_equal(packed.channel(words, k), pixels[..., k].astype(np.float32))


def test_levels_are_rounded_to_the_nearest_byte_half_to_even():
    halves = np.arange(255) + 0.5
    levels = np.concatenate([np.linspace(0, 255, 4321), halves, [255 + 1e-5]])
    levels = levels.astype(np.float32)
    words = jax.jit(packed.rounded)([levels, levels[::-1]])
    expected = np.rint(np.stack([levels, levels[::-1]], -1))
    np.testing.assert_array_equal(packed.unpacked(words, 2), expected)
