"""Shuffled batches of example indices."""

import math

import jax
import jax.numpy as jnp

from fnn.types import RandomKey

WORD_BITS = 32


def batches(
    key: RandomKey,
    epoch: jax.Array | int,
    *,
    examples: int,
    batch_size: int,
) -> jax.Array:
    """Example indices of every batch of one epoch.

    The order is a permutation drawn with fold_in(key, epoch). Therefore every epoch has another
    order, and any epoch can be computed without replaying the earlier ones.

    Args:
        key: Random key of the run.
        epoch: Number of the epoch, int or int32 scalar; may be traced.
        examples: Number of examples in the data.
        batch_size: Number of examples in a batch.

    Returns:
        Indices int32 (examples // batch_size, batch_size). The remaining examples mod batch_size
        examples are left out in this epoch.
    """
    steps = examples // batch_size
    epoch_key = jax.random.fold_in(key, epoch)
    order = permutation(epoch_key, examples)
    return order[: steps * batch_size].reshape(steps, batch_size)


def permutation(key: RandomKey, count: int) -> jax.Array:
    """Uniformly random permutation of 0..count - 1, int32 (count,)."""
    # Each word holds an index in its low bits and random bits above them. Sorting the words puts
    # the indices in random order, except where two words have equal random bits. More rounds make
    # such ties rare: all rounds together use 3 log2(count) random bits per index, as
    # jax.random.permutation does. That function sorts pairs of arrays: 2x to 5x slower on CPU.
    index_bits = max(1, (count - 1).bit_length())
    random_bits = WORD_BITS - index_bits
    needed_bits = 3 * math.log2(max(count, 2))
    rounds = math.ceil(needed_bits / random_bits)
    index_mask = jnp.uint32((1 << index_bits) - 1)
    indices = jnp.arange(count, dtype=jnp.uint32)
    order = indices
    # (rounds, count)
    words = jax.random.bits(key, (rounds, count), jnp.uint32)
    for word in words:
        tagged = word & ~index_mask | indices
        order = order[jnp.sort(tagged) & index_mask]
    return order.astype(jnp.int32)
