"""Batches of arrays, and shuffled order."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from fnn.types import RandomKey


def batches(key: RandomKey, epoch: jax.Array | int, *, examples: int, batch_size: int) -> jax.Array:
    """The example numbers of each batch of an epoch, (examples // batch_size, batch_size).

    A permutation by fold_in(key, epoch): every epoch has its own order, and it can be asked for again without replaying
    those before it. The examples left over sit this epoch out.
    """
    steps = examples // batch_size
    order = shuffled(jax.random.fold_in(key, epoch), examples)
    return order[: steps * batch_size].reshape(steps, batch_size)


WORD = 32  # bits


def shuffled(key: RandomKey, count: int) -> Array:
    """The numbers 0..count - 1 in an order of which each is as likely, int32.

    A word's low bits are a number, its others are drawn: sorted, the words hold the numbers in random order, but for
    those that drew the same. So there are as many rounds as it takes to draw 3 log2(count) bits for each number, as
    many as jax.random.permutation draws, which sorts pairs of arrays and takes 2 to 5 times as long on CPU.
    """
    low_bits = max(1, (count - 1).bit_length())
    rounds = math.ceil(3 * math.log2(max(count, 2)) / (WORD - low_bits))
    low = jnp.uint32((1 << low_bits) - 1)
    own = jnp.arange(count, dtype=jnp.uint32)
    order = own
    for word in jax.random.bits(key, (rounds, count), jnp.uint32):
        order = order[jnp.sort(word & ~low | own) & low]
    return order.astype(jnp.int32)
