"""Broadcasts and lookups whose gradients are summed in float32 at least.

The transpose of a broadcast is a sum, and that of a lookup adds the rows of equal indices. In
bfloat16, which has 8 bits of precision, a sum of ones ends at 256: 256 + 1 is rounded to 256.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.types import Shape


def along_last(array: jax.Array, x: jax.Array) -> jax.Array:
    """Reshape an array (..., channels) to the rank of x, (1, ..., 1, ..., channels), to broadcast.

    In half precision the leading axes have the sizes of those of x, since the sum over them, which
    is the gradient of the array, is taken in float32.

    Args:
        array: An array whose axes are the last axes of x, such as a bias.
        x: The array that it is combined with.
    """
    # Explicit ones, since implicit rank promotion is an error in the tests.
    leading = x.ndim - array.ndim
    reshaped = array.reshape((1,) * leading + array.shape)
    if array.dtype == trees.wide(array):
        return reshaped
    return broadcast(reshaped, x.shape[:leading] + array.shape)


def broadcast(array: jax.Array, shape: Shape) -> jax.Array:
    """Broadcast an array to a shape of the same or a higher rank.

    Args:
        array: A floating-point array.
        shape: The shape of the result.
    """
    return _sum_widely(lambda array: jnp.broadcast_to(array, shape), array)


def take_rows(table: jax.Array, indices: jax.Array) -> jax.Array:
    """Return table[indices] (..., width), with indices out of bounds clipped.

    Args:
        table: (rows, width).
        indices: Integers (...).
    """

    # `indices` is an argument, since a custom derivative may not close over traced arrays.
    def take(table: jax.Array, indices: jax.Array) -> jax.Array:
        return jnp.take(table, indices, axis=0, mode="clip")

    return _sum_widely(take, table, indices)


def _sum_widely(
    linear: Callable[..., jax.Array],
    array: jax.Array,
    *integers: jax.Array,
) -> jax.Array:
    """Apply a linear function of an array, whose transpose computes in float32 at least.

    Args:
        linear: (array, *integers) -> y, linear in the array.
        array: A floating-point array.
        integers: Further arguments, which have no gradient.
    """
    wide = trees.wide(array)
    if array.dtype == wide:
        return linear(array, *integers)

    # Only the derivative is wide: the forward pass reads and writes arrays in half precision.
    @jax.custom_jvp
    def apply(array: jax.Array, *integers: jax.Array) -> jax.Array:
        return linear(array, *integers)

    @apply.defjvp
    def _(
        primals: tuple[jax.Array, ...],
        tangents: tuple[jax.Array, ...],
    ) -> tuple[jax.Array, jax.Array]:
        array, *integers = primals
        wide_tangent = tangents[0].astype(wide)
        tangent = linear(wide_tangent, *integers).astype(array.dtype)
        return apply(array, *integers), tangent

    return apply(array, *integers)
