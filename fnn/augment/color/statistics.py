"""What a recolor has to know of a whole image: its extremes, its histogram."""

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.augment.intensity import LEVELS, to_bytes
from fnn.types import Image
from fnn.xla import from_batched, on_cpu_else

WORD = 32  # bits


def extremes(image: Image, needed: Array | bool = True) -> tuple[Array, Array]:
    """The lowest and the highest level of each channel, (channels,) each."""
    # Down the long rows first, for a loop over so many numbers is vectorized, one over three channels is not.
    rows = image.reshape(image.shape[0], -1)
    low, high = (end.reshape(-1, image.shape[-1]) for end in (rows.min(0), rows.max(0)))
    return low.min(0), high.max(0)


def histogram(
    image: Image,
    needed: Array | bool = True,
    then: Callable[[Array], Array] = lambda counts: counts,
) -> Array:
    """How many pixels have each of the 256 levels (channels, 256), int32, or what `then` makes of it.

    Where it is not needed it may be zeros.
    """
    return from_batched(partial(_counts, then))(to_bytes(image), jnp.asarray(needed))


def _counted(images: Array) -> Array:
    batch, channels = images.shape[0], images.shape[-1]
    # One flat table of all channels of all images, so that an index is one number.
    table = LEVELS * jnp.arange(batch * channels, dtype=jnp.int32).reshape(batch, 1, channels)
    levels = images.reshape(batch, -1, channels).astype(jnp.int32) + table
    counts = (
        jnp.zeros(batch * channels * LEVELS, jnp.int32).at[levels].add(1, mode="promise_in_bounds")
    )
    return counts.reshape(batch, channels, LEVELS)


def _counts(then: Callable[[Array], Array], images: Array, needed: Array) -> Array:
    def at_once(images: Array, needed: Array) -> Array:
        return jax.vmap(then)(_counted(images))

    def one_by_one(images: Array, needed: Array) -> Array:
        # Counting is 25 times as slow as looking up, and of a policy's images few need it: these come first.
        order = jnp.argsort(~needed)

        def step(turn: Array, seen: Array) -> Array:
            return seen.at[order[turn]].set(at_once(images[order[turn]][None], needed)[0])

        none = jnp.zeros_like(
            at_once(images, needed)
        )  # made so, it varies in a shard_map as what is seen does
        return jax.lax.fori_loop(0, needed.sum(dtype=jnp.int32), step, none)

    return on_cpu_else(one_by_one, at_once)(images, needed)


@jax.jit  # which keeps its tables to itself: as operands of a choice they would not do in a shard_map
def pillows_rounding(x: Array, low: Array, high: Array) -> Array:
    """int(x s - low s) with s = 255 / (high - low) as float64 gives it: at times 1 below the true quotient."""
    level, first, last = (own.astype(jnp.int32) for own in (x, low, high))
    whole = jnp.floor(
        ((x - low) * 255 + 0.5) / jnp.maximum(high - low, 1)
    )  # of whole numbers that is the quotient
    rows, words = (jnp.asarray(table) for table in _misses())
    row = rows.at[first * LEVELS + last].get(mode="promise_in_bounds").astype(jnp.int32)
    word = words.at[row, level // WORD].get(mode="promise_in_bounds")
    return whole - (word >> (level % WORD).astype(jnp.uint32) & 1).astype(x.dtype)


@cache
def _misses() -> tuple[np.ndarray, np.ndarray]:
    """Where float64 lies just below the whole number it should be: a row for each (low, high), and its levels' bits."""
    missed = np.zeros((LEVELS, LEVELS, LEVELS), bool)  # (low, high, level)
    level = np.arange(LEVELS)[None]
    for low in range(LEVELS - 1):
        high = np.arange(low + 1, LEVELS)[:, None]
        scale = 255.0 / (high - low)
        cut = np.floor(level * scale + -low * scale)
        missed[low, low + 1 :] = (
            (cut != (level - low) * 255 // (high - low)) & (level >= low) & (level <= high)
        )
    bits = np.packbits(missed.reshape(-1, LEVELS), axis=1, bitorder="little").view("<u4")
    words, rows = np.unique(bits, axis=0, return_inverse=True)
    return rows.reshape(-1).astype(np.uint16), words.astype(np.uint32)
