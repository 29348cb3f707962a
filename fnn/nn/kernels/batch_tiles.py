"""Computation over tiles of the batch, small enough that intermediates stay in the cache."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.xla import is_whole

MAX_TILES = 64  # the most tiles of a batch


def tile_count(
    count: int,
    bytes_needed: float,
    cache_bytes: float,
) -> int:
    """Return the smallest number of equal tiles whose intermediates fit the cache.

    Args:
        count: Size of the batch, which the number of tiles must divide.
        bytes_needed: Size of the intermediates of the whole batch.
        cache_bytes: Size that those of a tile may have.

    Returns:
        1 if no number of tiles up to `MAX_TILES` is enough, or the batch is divided among devices.
    """
    if is_whole():
        return 1
    for tiles in range(1, MAX_TILES + 1):
        if count % tiles == 0 and bytes_needed <= cache_bytes * tiles:
            return tiles
    return 1


def map_tiles(
    function: Callable[[Array], Array],
    x: Array,
    tiles: int,
) -> Array:
    """Compute function(x) one tile of the batch after another, and concatenate the results."""
    if tiles == 1:
        return function(x)
    y = lax.map(function, _split(x, tiles))
    return y.reshape(-1, *y.shape[2:])  # (tiles, n / tiles, ...) -> (n, ...)


def sum_tiles(
    function: Callable[..., Array],
    tiles: int,
    *arrays: Array,
) -> Array:
    """Compute the sum of function(*tile) over the tiles of the batch of all arrays."""
    if tiles == 1:
        return function(*arrays)
    split = [_split(array, tiles) for array in arrays]
    first = [array[0] for array in split]
    result = jax.eval_shape(function, *first)

    def add(total: Array, tile: list[Array]) -> tuple[Array, None]:
        return total + function(*tile), None

    zeros = jnp.zeros(result.shape, result.dtype)
    total, _ = lax.scan(add, zeros, split)
    return total


def _split(x: Array, tiles: int) -> Array:
    n, *rest = x.shape
    # (n, ...) -> (tiles, n / tiles, ...)
    return x.reshape(tiles, n // tiles, *rest)
