"""Random numbers of augmentations, derived from uint32 words, and the check of their magnitudes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.errors import ConfigError
from fnn.types import Magnitude, Number, RandomKey

BITS = 24  # of a float32's fraction: read so, every number is as likely, and 1 is never reached


def words(key: RandomKey, count: int) -> Array:
    """So many random words of 32 bits (count,)."""
    return jax.random.bits(key, (count,), jnp.uint32)


def unit(word: Array) -> Array:
    """A number in [0, 1), float32."""
    return (word >> (32 - BITS)).astype(jnp.float32) * jnp.float32(2**-BITS)


def within(word: Array, magnitude: Magnitude) -> Array:
    """The magnitude if it is one number, and a number between, each as likely, if it is a pair (low, high)."""
    low, high = magnitude if isinstance(magnitude, tuple) else (magnitude, magnitude)
    return between(word, low, high)


def between(word: Array, low: Number, high: Number) -> Array:
    low, high = jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)
    return low + (high - low) * unit(word)


def below(word: Array, limit: int) -> Array:
    """A whole number from 0 up to the limit, each as likely to within limit in 2²⁴, int32."""
    return jnp.floor(unit(word) * jnp.float32(limit)).astype(jnp.int32)


def happens(word: Array, probability: Number) -> Array:
    """Whether what has this probability happens."""
    return unit(word) < jnp.asarray(probability, jnp.float32)


def sign(word: Array) -> Array:
    """1 or -1, float32."""
    return 1 - 2 * (word >> 31).astype(jnp.float32)


def normal(word: Array) -> Array:
    """A number of the normal distribution N(0, 1), float32."""
    # The lower half and a sign: the upper half comes so near to 1 that float32 makes it 1, and the number infinite.
    return sign(word) * jax.scipy.special.ndtri(
        (unit(word << 1) + jnp.float32(2 ** -(BITS + 1))) / 2
    )


def own_key(two: Array) -> RandomKey:
    """A key made of two words, for what draws a number a pixel."""
    return jax.random.wrap_key_data(two, impl="threefry2x32")


def expect_magnitude(where: str, magnitude: Any, interval: str = "(-inf, inf)") -> Magnitude:
    """The magnitude, if all its numbers lie in the interval and the low one is not above the high one."""
    if not isinstance(magnitude, tuple):
        return checks.number(where, magnitude, interval)
    if len(magnitude) != 2:
        raise ConfigError(
            where, "one number or (low, high)", magnitude, "give two to draw between them"
        )
    low, high = (
        checks.number(f"{where} {end}", own, interval)
        for end, own in zip(("low", "high"), magnitude, strict=True)
    )
    if checks.is_concrete(low) and checks.is_concrete(high) and float(low) > float(high):
        raise ConfigError(where, "(low, high) with low <= high", magnitude, "change their places")
    return low, high
