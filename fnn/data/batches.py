"""Batches of example indices: shuffled, or drawn with probability by weight."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.types import RandomKey

WORD_BITS = 32
# Sum of the whole numbers to which weights are rounded. With one more for each small weight, it
# stays below 2^31.
WEIGHT_UNITS = 2**30


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


def weighted_batches(
    key: RandomKey,
    epoch: jax.Array | int,
    *,
    weights: Sequence[float] | jax.Array | np.ndarray,
    batch_size: int,
) -> jax.Array:
    """Example indices of every batch of one epoch, drawn with replacement by weight.

    Example i is drawn with probability weights[i] / Σ weights, each time independently, as by
    torch's WeightedRandomSampler. An epoch has as many draws as full batches of all examples. For
    unbalanced classes, `weights=data.class_weights(labels)[labels]` draws each class equally often.
    That gives the mean gradients of a loss with these weights, with less noise of rare classes, but
    shows their few examples more often [He & Garcia 2009, Learning from imbalanced data].

    Train on the examples of the indices: as batches of a stream, `lab.fit(key, recipe,
    [(x[rows], y[rows]) for rows in indices], ...)`, or as an array, `x[indices.ravel()]`.

    Args:
        key: Random key of the run.
        epoch: Number of the epoch, int or int32 scalar; may be traced.
        weights: One number >= 0 for each example, (n,), of any positive sum; may be traced.
            Probabilities are rounded to multiples of 2^-30; an example of weight 0 is never drawn,
            and one of a positive weight can be drawn.
        batch_size: Number of examples in a batch.

    Returns:
        Indices int32 (n // batch_size, batch_size).

    Raises:
        ConfigError: A weight is negative or not finite, or all are 0, and they are not traced.
        ShapeError: The weights are not of shape (n,).
        DTypeError: `key` is not a key.
    """
    checks.key("weighted_batches key", key)
    where = "weighted_batches weights"
    row = checks.as_array(where, weights)
    if row.ndim != 1:
        raise ShapeError(where, "one number for each example, (n,)", row.shape, "ravel them")
    if checks.is_concrete(row):
        row = _expect_weights(where, row)
    shares = jnp.asarray(row, jnp.result_type(float))
    shares = shares / shares.sum()
    # Whole numbers have exact sums, in which an example of weight 0 has no room.
    units = jnp.rint(shares * WEIGHT_UNITS).astype(jnp.int32)
    units = jnp.where(shares > 0, jnp.maximum(units, 1), 0)
    ends = jnp.cumsum(units)  # (n,)
    steps = len(row) // checks.whole("weighted_batches batch_size", batch_size)
    epoch_key = jax.random.fold_in(key, epoch)
    draws = jax.random.randint(epoch_key, (steps, batch_size), 0, ends[-1])
    indices = jnp.searchsorted(ends, draws, side="right")
    return indices.astype(jnp.int32)


def _expect_weights(where: str, row: Any) -> np.ndarray:
    """Return the weights in float64, divided by the largest; ConfigError if one is no weight."""
    if isinstance(row, np.ma.MaskedArray):
        row = checks.unmasked(where, row)
    if not jnp.issubdtype(row.dtype, jnp.number) or jnp.iscomplexobj(row):
        raise ConfigError(where, "numbers >= 0", row.dtype, "give one for each example")
    host = np.asarray(row, np.float64)
    # False for NaN.
    is_weight = (host >= 0) & (host < np.inf)
    if not is_weight.all():
        index = int(is_weight.argmin())
        got = f"{host[index]} at index {index}"
        raise ConfigError(where, "numbers >= 0", got, "give 0 to leave an example out")
    largest = host.max(initial=0)
    if largest == 0:
        raise ConfigError(where, "one number > 0 or more", "none", "give some examples a weight")
    # So that neither the sum nor a number overflows in float32.
    return host / largest


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
