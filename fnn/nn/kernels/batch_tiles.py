"""A batch in pieces, so that what is made of one, as the columns of a product, stays in the cache until it is read."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

MOST = 64  # pieces


def pieces(count: int, bytes_made: float, bytes_kept: float) -> int:
    """The fewest equal pieces of which each makes no more bytes than the cache may keep."""
    return next(
        (p for p in range(1, MOST + 1) if count % p == 0 and bytes_made <= bytes_kept * p), 1
    )


def mapped(function: Callable[[Array], Array], x: Array, parts: int) -> Array:
    """function(x), a part of the batch at a time."""
    if parts == 1:
        return function(x)
    y = lax.map(function, _split(x, parts))
    return y.reshape(-1, *y.shape[2:])


def added(function: Callable[..., Array], parts: int, *arrays: Array) -> Array:
    """The sum of function(*part) over the parts of the batch."""
    if parts == 1:
        return function(*arrays)
    split = [_split(array, parts) for array in arrays]
    none = jax.eval_shape(function, *(array[0] for array in split))

    def add(total: Array, own: list[Array]) -> tuple[Array, None]:
        return total + function(*own), None

    return lax.scan(add, jnp.zeros(none.shape, none.dtype), split)[0]


def _split(x: Array, parts: int) -> Array:
    return x.reshape(parts, x.shape[0] // parts, *x.shape[1:])
