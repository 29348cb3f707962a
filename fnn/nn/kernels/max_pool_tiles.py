"""The largest of windows that lie side by side: its place is kept, by which the derivative is one selection.

With gradients that compare each element with the maximum again, slice by slice, XLA:CPU takes four times as long; and
so that it does not work out the place anew for each element of a window, on CPU that is done behind a wall.
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
from fnn.xla import fusion_barrier

Sizes = tuple[int, ...]


def largest(x: Array, window: Sizes) -> Array:
    """The largest value of each window of x (batch, ..., channel); what is left over at the ends does not count.

    NaN wins, and the first of several maxima takes the gradient.
    """
    whole = (slice(n // w * w) for n, w in zip(x.shape[1:-1], window, strict=True))
    return winners(x[:, *whole], window)[0]


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def winners(x: Array, window: Sizes) -> tuple[Array, Array]:
    """The largest value of each window and its place there, counted row by row; of NaN, a place that is not there.

    The place is a float, for the tangent of a whole number could not be one that varies over devices.
    """

    @custom_vmap
    def alone(x: Array) -> tuple[Array, Array]:
        return fusion_barrier(partial(_winners, window=window), x)

    @alone.def_vmap
    def together(size: int, batched: list[bool], x: Array) -> tuple[Any, Any]:
        # Behind the same wall: fused with what comes before, sums might round otherwise than a member's alone do.
        found = alone(x.reshape(-1, *x.shape[2:]))
        return jax.tree.map(lambda own: own.reshape(size, -1, *own.shape[1:]), found), (True, True)

    top, place = alone(x)
    return top, place


@winners.defjvp
def _(window: Sizes, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Any, Any]:
    top, place = winners(*primals, window)
    within = tuple(range(2, 2 * len(window) + 1, 2))  # the axes of a window
    number = np.arange(np.prod(window), dtype=place.dtype).reshape(window)
    outside = tuple(axis for axis in range(2 * len(window) + 2) if axis not in within)
    chosen = jnp.expand_dims(place, within) == np.expand_dims(number, outside)
    tangent = jnp.where(chosen, _tiled(*tangents, window), 0).sum(within)
    return (top, place), (tangent, jnp.zeros_like(place))


def _tiled(x: Array, window: Sizes) -> Array:
    """Each axis of windows followed by the axis within them: (batch, height / h, h, width / w, w, channel)."""
    sizes = [n for size, w in zip(x.shape[1:-1], window, strict=True) for n in (size // w, w)]
    return x.reshape(x.shape[0], *sizes, x.shape[-1])


def _winners(x: Array, window: Sizes) -> tuple[Array, Array]:
    tiled, every = _tiled(x, window), slice(None)
    seen = [
        tiled[:, *(n for k in place for n in (every, k))] for place in product(*map(range, window))
    ]
    top = seen[0]
    for own in seen[1:]:
        top = jnp.maximum(top, own)
    place = jnp.full_like(top, len(seen), trees.wide(x))
    for number, own in reversed([*enumerate(seen)]):
        place = jnp.where(own == top, number, place)
    return top, place
