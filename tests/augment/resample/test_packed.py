"""Bytes as words and back, and levels rounded as IEEE rounds them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.augment.resample import packed

BYTES = np.random.default_rng(0).integers(0, 256, (3, 4, 5, packed.ROOM), np.uint8)


@pytest.mark.parametrize("channels", range(1, packed.ROOM + 1))
def test_bytes_go_into_words_and_come_out(channels):
    pixels = BYTES[..., :channels]
    own = jax.jit(packed.packed)(pixels)
    assert own.shape == pixels.shape[:-1] and own.dtype == jnp.uint32
    np.testing.assert_array_equal(packed.unpacked(own, channels), pixels)
    for k in range(channels):
        np.testing.assert_array_equal(packed.channel(own, k), pixels[..., k].astype(np.float32))


def test_levels_are_rounded_to_the_nearest_byte_half_to_even():
    levels = np.concatenate([np.linspace(0, 255, 4321), np.arange(255) + 0.5, [255 + 1e-5]]).astype(
        np.float32
    )
    own = jax.jit(packed.rounded)([levels, levels[::-1]])
    np.testing.assert_array_equal(
        packed.unpacked(own, 2), np.rint(np.stack([levels, levels[::-1]], -1))
    )
