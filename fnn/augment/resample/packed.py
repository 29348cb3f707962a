"""Bytes as words: the channels of a pixel, up to four, in one number of 32 bits, so that a loop is one over pixels."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

ROOM = 4  # channels
# Above 2²³ a float32 has no fraction: adding that much rounds to the nearest whole number, half to even, and leaves it
# in the lowest bits. A conversion, which XLA makes safe against numbers too large, takes three times as long.
WHOLE = 2.0**23


def packed(pixels: Array) -> Array:
    """Bytes (..., channels) as words (...)."""
    words = pixels.astype(jnp.uint32)
    return _joined([words[..., k] for k in range(pixels.shape[-1])])


def unpacked(words: Array, channels: int) -> Array:
    """Words (...) as bytes (..., channels)."""
    return jax.lax.bitcast_convert_type(words, jnp.uint8)[..., :channels]


def channel(words: Array, k: int) -> Array:
    """One channel of words, as floats in [0, 255]."""
    return (words >> 8 * k & 255).astype(jnp.float32)


def rounded(levels: Sequence[Array]) -> Array:
    """Words of the nearest bytes of each channel's levels, float32 in [0, 255]."""
    return _joined(
        [
            jax.lax.bitcast_convert_type(level + jnp.float32(WHOLE), jnp.uint32) & 255
            for level in levels
        ]
    )


def _joined(channels: Sequence[Array]) -> Array:
    return functools.reduce(jnp.bitwise_or, (own << 8 * k for k, own in enumerate(channels)))
