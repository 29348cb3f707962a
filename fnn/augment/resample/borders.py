"""Padding modes: the pixel that a coordinate outside of the image refers to."""

import jax.numpy as jnp
from jax import Array

# The modes of numpy.pad that are supported.
MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def border_index(
    index: Array,
    length: int,
    mode: str,
) -> Array:
    """Map whole coordinates to indices in [0, length), as `numpy.pad` does.

    For "constant" the result outside of the image is any valid index; see `is_inside`.
    """
    last = length - 1
    if mode == "wrap":
        return index % length
    if mode == "symmetric":
        # Period 2 n: 0 1 2 | 2 1 0.
        folded = index % (2 * length)
        return jnp.minimum(folded, 2 * length - 1 - folded)
    if mode == "reflect" and last:
        # Period 2 (n - 1): 0 1 2 | 1. A single row or column has no reflection.
        folded = index % (2 * last)
        return jnp.minimum(folded, 2 * last - folded)
    return jnp.clip(index, 0, last)


def is_inside(index: Array, length: int) -> Array:
    return (index >= 0) & (index < length)
