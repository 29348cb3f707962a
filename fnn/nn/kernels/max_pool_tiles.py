"""Max pooling over windows that do not overlap, with a derivative by the index of the maximum.

On CPU the derivative is 4x faster than one that compares each element with the maximum again,
slice by slice. A fusion barrier keeps XLA:CPU from computing the index again for each element of a
window.
"""

from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_batching import custom_vmap

from fnn import trees
from fnn.xla import fusion_barrier, is_portable

Sizes = tuple[int, ...]


def max_pool(x: Array, window: Sizes) -> Array:
    """Return the largest value of each window; the last elements of an axis may be left over.

    NaN is the largest, and the first of equal maxima takes the gradient.

    Args:
        x: (batch, ..., channels).
        window: Size of the window, which is also the stride, one number an axis.
    """
    covered = []
    image = x.shape[1:-1]
    for size, w in zip(image, window, strict=True):
        covered.append(slice(size // w * w))
    if is_portable():
        values, _ = _max_and_index(x[:, *covered], window)
        return values
    values, _ = max_and_index(x[:, *covered], window)
    return values


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_and_index(x: Array, window: Sizes) -> tuple[Array, Array]:
    """Return the largest value of each window and its row-major index in the window.

    The index is past the end where the maximum is NaN. It is a float, since the tangent of an
    integer cannot vary over the devices of a `shard_map`.
    """

    @custom_vmap
    def one_batch(x: Array) -> tuple[Array, Array]:
        return fusion_barrier(partial(_max_and_index, window=window), x)

    @one_batch.def_vmap
    def mapped_batches(
        size: int,
        is_batched: list[bool],
        x: Array,
    ) -> tuple[Any, Any]:
        # Behind the same barrier: fused with the code before, sums might round otherwise than
        # without vmap. (members, batch, ...) -> (members batch, ...)
        merged = x.reshape(-1, *x.shape[2:])
        top, index = one_batch(merged)
        top = top.reshape(size, -1, *top.shape[1:])
        index = index.reshape(size, -1, *index.shape[1:])
        return (top, index), (True, True)

    top, index = one_batch(x)
    return top, index


@max_and_index.defjvp
def _(
    window: Sizes,
    primals: tuple[Array],
    tangents: tuple[Array],
) -> tuple[Any, Any]:
    top, index = max_and_index(*primals, window)
    (tangent,) = tangents
    # In the tiled layout the axes 2, 4, ... are those of a window, the others those of the result.
    rank = 2 * len(window) + 2
    inner = tuple(range(2, rank - 1, 2))
    outer = tuple(axis for axis in range(rank) if axis not in inner)
    numbers = np.arange(np.prod(window), dtype=index.dtype)
    positions = numbers.reshape(window)
    # (batch, height / h, h, width / w, w, channels): True for the maximum of each window
    is_max = jnp.expand_dims(index, inner) == np.expand_dims(positions, outer)
    # A selection of the tangent of the maximum, whose transpose scatters nothing.
    selected = jnp.where(is_max, _tile(tangent, window), 0)
    tangent_out = selected.sum(inner)
    return (top, index), (tangent_out, jnp.zeros_like(index))


def _tile(x: Array, window: Sizes) -> Array:
    """Split each spatial axis: (batch, height / h, h, width / w, w, channels)."""
    batch, *image, channels = x.shape
    sizes = []
    for size, w in zip(image, window, strict=True):
        sizes += [size // w, w]
    return x.reshape(batch, *sizes, channels)


def _max_and_index(x: Array, window: Sizes) -> tuple[Array, Array]:
    tiled = _tile(x, window)
    values = []  # for each position in the window (batch, height / h, width / w, channels)
    for position in product(*map(range, window)):
        selection: list[Any] = []
        for i in position:
            selection += [slice(None), i]
        values.append(tiled[:, *selection])
    top = values[0]
    for value in values[1:]:
        top = jnp.maximum(top, value)
    # A float that holds every index of a large window; NaN equals nothing and keeps the last one.
    index = jnp.full_like(top, len(values), trees.wide(x))
    # In reverse order, so that the first of equal maxima is selected last.
    for number, value in reversed([*enumerate(values)]):
        index = jnp.where(value == top, number, index)
    return top, index
