"""Pixels of bytes packed into words of up to four channels, so that loops run over pixels."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

MAX_CHANNELS = 4

# Above 2²³ a float32 has no fraction: adding 2²³ rounds to the nearest whole number, half to even,
# and leaves it in the lowest bits. A conversion is 3x slower, because XLA protects it against
# overflow.
ROUNDING = 2.0**23


def packed(pixels: Array) -> Array:
    """Pack bytes (..., channels) into words (...), uint32."""
    words = pixels.astype(jnp.uint32)
    count = pixels.shape[-1]
    return _join([words[..., k] for k in range(count)])


def unpacked(words: Array, channels: int) -> Array:
    """Unpack words (...) into bytes (..., channels)."""
    # (..., 4): the bytes of each word, the lowest first.
    four = jax.lax.bitcast_convert_type(words, jnp.uint8)
    return four[..., :channels]


def channel(words: Array, k: int) -> Array:
    """Channel number k as floats in [0, 255]."""
    level = words >> 8 * k & 255
    return level.astype(jnp.float32)


def rounded(levels: Sequence[Array]) -> Array:
    """Round the levels of each channel, float32 in [0, 255], to bytes, and pack them."""
    channels = []
    for level in levels:
        shifted = level + jnp.float32(ROUNDING)
        bits = jax.lax.bitcast_convert_type(shifted, jnp.uint32)
        channels.append(bits & 255)
    return _join(channels)


def whole_bytes(levels: Array) -> Array:
    """Convert whole numbers in [0, 255], float32, to bytes."""
    shifted = levels + jnp.float32(ROUNDING)
    return jax.lax.bitcast_convert_type(shifted, jnp.uint32).astype(jnp.uint8)


def _join(channels: Sequence[Array]) -> Array:
    # Channel k occupies the bits 8 k to 8 k + 7.
    shifted = (channel << 8 * k for k, channel in enumerate(channels))
    return functools.reduce(jnp.bitwise_or, shifted)
