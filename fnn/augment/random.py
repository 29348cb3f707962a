"""Random numbers of augmentations, derived from uint32 words, and the check of their magnitudes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.errors import ConfigError
from fnn.types import Magnitude, Number, RandomKey
from fnn.xla import rounded_product

# Bits of a float32's fraction. With 24 bits all values are equally likely, and 1 is never reached.
BITS = 24


def words(key: RandomKey, count: int) -> Array:
    """Draw `count` random words of 32 bits (count,), uint32."""
    return jax.random.bits(key, (count,), jnp.uint32)


def unit_uniform(word: Array) -> Array:
    """Uniform in [0, 1), float32."""
    fraction = (word >> (32 - BITS)).astype(jnp.float32)
    return fraction * jnp.float32(2**-BITS)


def sample_magnitude(word: Array, magnitude: Magnitude) -> Array:
    """A number as it is, float32; a pair (low, high) gives a uniform value between the two."""
    if isinstance(magnitude, tuple):
        low, high = magnitude
    else:
        # high - low is then 0, so that the result is exactly the number.
        low = high = magnitude
    return uniform(word, low, high)


def uniform(
    word: Array,
    low: Number,
    high: Number,
) -> Array:
    """Uniform in [low, high), float32."""
    low = jnp.asarray(low, jnp.float32)
    high = jnp.asarray(high, jnp.float32)
    width = high - low
    return low + rounded_product(width, unit_uniform(word))


def integers(word: Array, limit: int) -> Array:
    """Uniform whole number in [0, limit), int32.

    The probabilities differ from each other by a relative error of at most limit / 2²⁴.
    """
    scaled = unit_uniform(word) * jnp.float32(limit)
    return jnp.floor(scaled).astype(jnp.int32)


def bernoulli(word: Array, probability: Number) -> Array:
    """True with the given probability."""
    return unit_uniform(word) < jnp.asarray(probability, jnp.float32)


def sign(word: Array) -> Array:
    """1 or -1 with equal probability, float32."""
    highest_bit = (word >> 31).astype(jnp.float32)
    return 1 - 2 * highest_bit


# One program, also in eager mode: the polynomial of the quantile is then the same to the bit.
@jax.jit
def normal(word: Array) -> Array:
    """A number of the normal distribution N(0, 1), float32."""
    # The lower half of the distribution and a sign. Probabilities near 1 would be rounded to 1 in
    # float32, whose quantile is infinite. The shift drops the highest bit, which `sign` uses.
    direction = sign(word)
    # Half a step is added, so that the probability is never 0.
    half_step = jnp.float32(2 ** -(BITS + 1))
    probability = (unit_uniform(word << 1) + half_step) / 2
    return direction * jax.scipy.special.ndtri(probability)


def key_from_words(two: Array) -> RandomKey:
    """A key made of two words (2,), for operations that draw a number per pixel."""
    return jax.random.wrap_key_data(two, impl="threefry2x32")


def expect_magnitude(
    where: str,
    magnitude: Any,
    interval: str = "(-inf, inf)",
) -> Magnitude:
    """Raise unless the magnitude is in the interval, with low <= high if it is a pair."""
    if isinstance(magnitude, list):
        advice = f"write a tuple, ({', '.join(map(str, magnitude))})"
        raise ConfigError(where, "one number or a tuple (low, high)", magnitude, advice)
    if not isinstance(magnitude, tuple):
        return checks.number(where, magnitude, interval)
    if len(magnitude) != 2:
        advice = "give two to draw between them"
        raise ConfigError(where, "one number or (low, high)", magnitude, advice)
    low = checks.number(f"{where} low", magnitude[0], interval)
    high = checks.number(f"{where} high", magnitude[1], interval)
    # Traced ends cannot be compared.
    known = checks.is_concrete(low) and checks.is_concrete(high)
    if known and float(low) > float(high):
        raise ConfigError(where, "(low, high) with low <= high", magnitude, "swap the two")
    return low, high
