"""Statistics of a whole image for point ops: extremes, histogram, and Pillow's stretching."""

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.augment.intensity import LEVELS, to_bytes
from fnn.types import Image
from fnn.xla import from_batched, on_cpu_else

WORD_BITS = 32


def extremes(image: Image, needed: Array | bool = True) -> tuple[Array, Array]:
    """Return the lowest and the highest level of each channel, (channels,) each."""
    channels = image.shape[-1]
    # Along the columns first: XLA vectorizes loops over long rows, but not over three channels.
    rows = image.reshape(image.shape[0], -1)
    low = rows.min(0)
    high = rows.max(0)
    # (width, channels)
    low = low.reshape(-1, channels)
    high = high.reshape(-1, channels)
    return low.min(0), high.max(0)


def histogram(
    image: Image,
    needed: Array | bool = True,
    then: Callable[[Array], Array] = lambda counts: counts,
) -> Array:
    """Count the pixels of each of 256 levels, and apply a function to the counts.

    Args:
        image: (height, width, channels); floats are counted as the nearest bytes.
        needed: Where it is False, the result may be zeros.
        then: Function of the counts int32 (channels, 256).

    Returns:
        then(counts).
    """
    return from_batched(partial(_batch_histogram, then))(to_bytes(image), jnp.asarray(needed))


def _count(images: Array) -> Array:
    """Return the counts (batch, channels, 256) of images of bytes."""
    batch = images.shape[0]
    channels = images.shape[-1]
    # One flat table for all channels of all images, so that an index is one number.
    tables = jnp.arange(batch * channels, dtype=jnp.int32)
    begins = LEVELS * tables.reshape(batch, 1, channels)
    # (batch, height * width, channels)
    index = images.reshape(batch, -1, channels).astype(jnp.int32) + begins
    zeros = jnp.zeros(batch * channels * LEVELS, jnp.int32)
    # Indices are in bounds by construction, so checks are left out.
    counts = zeros.at[index].add(1, mode="promise_in_bounds")
    return counts.reshape(batch, channels, LEVELS)


def _batch_histogram(
    then: Callable[[Array], Array],
    images: Array,
    needed: Array,
) -> Array:
    def at_once(images: Array, needed: Array) -> Array:
        return jax.vmap(then)(_count(images))

    def one_by_one(images: Array, needed: Array) -> Array:
        # On CPU, counting is 25x slower than a lookup, and of the images of a policy few need it.
        # So a loop over these images only.
        needed_first = jnp.argsort(~needed)

        def count_next(step: Array, results: Array) -> Array:
            result = results.at[needed_first[step]]
            image = images[needed_first[step]][None]
            return result.set(at_once(image, needed)[0])

        # Not constants: within a shard_map, zeros must vary over devices as the results do.
        zeros = jnp.zeros_like(at_once(images, needed))
        return jax.lax.fori_loop(0, needed.sum(dtype=jnp.int32), count_next, zeros)

    return on_cpu_else(one_by_one, at_once)(images, needed)


# jit, to keep its tables inside: as operands of a conditional they fail in a shard_map.
@jax.jit
def pillow_stretch(
    x: Array,
    low: Array,
    high: Array,
) -> Array:
    """Return int(x s - low s) with s = 255 / (high - low), as Pillow computes it in float64."""
    # Rounding errors of float64 make some results 1 less than the exact quotient. A table has
    # these cases, so that no float64 is needed here.
    level = x.astype(jnp.int32)
    first = low.astype(jnp.int32)
    last = high.astype(jnp.int32)
    # The exact quotient of whole numbers, rounded down.
    scaled = (x - low) * 255 + 0.5
    quotient = jnp.floor(scaled / jnp.maximum(high - low, 1))
    rows, words = (jnp.asarray(table) for table in _rounding_errors())
    # All indices are levels, so they are in bounds.
    row = rows.at[first * LEVELS + last].get(mode="promise_in_bounds").astype(jnp.int32)
    word = words.at[row, level // WORD_BITS].get(mode="promise_in_bounds")
    is_less = word >> (level % WORD_BITS).astype(jnp.uint32) & 1
    return quotient - is_less.astype(x.dtype)


@cache
def _rounding_errors() -> tuple[np.ndarray, np.ndarray]:
    """Return the cases in which float64 gives 1 less than the exact quotient, as a bit table.

    Returns:
        The row of each (low, high), uint16 (65536,), and the rows, uint32 (rows, 8), which have one
        bit for each level.
    """
    is_less = np.zeros((LEVELS, LEVELS, LEVELS), bool)  # (low, high, level)
    level = np.arange(LEVELS)[None]
    for low in range(LEVELS - 1):
        high = np.arange(low + 1, LEVELS)[:, None]
        scale = 255.0 / (high - low)
        # Pillow's formula, with its order of operations.
        stretched = np.floor(level * scale + -low * scale)
        exact = (level - low) * 255 // (high - low)
        in_range = (level >= low) & (level <= high)
        is_less[low, low + 1 :] = (stretched != exact) & in_range
    cases = is_less.reshape(-1, LEVELS)  # (low * 256 + high, level)
    bits = np.packbits(cases, axis=1, bitorder="little").view("<u4")
    # Few rows differ, so the table is stored as the distinct rows.
    words, rows = np.unique(bits, axis=0, return_inverse=True)
    return rows.reshape(-1).astype(np.uint16), words.astype(np.uint32)
