"""The keys and values of earlier positions, kept from one part of a sequence to the next."""

import jax
import jax.numpy as jnp

from fnn.types import Layer, Params, Shape, Span, State

KeysAndValues = tuple[jax.Array, jax.Array]  # each (batch, keys, kv_heads, head_width)


def key_value_cache(span: Span) -> Layer:
    """Make the layer that adds the keys and values of a part to those of the earlier parts.

    The input is a pair, keys and values (batch, time, kv_heads, head_width) of the part. y is the
    pair with an axis of `span.capacity` positions, which is also the state, under the names `key`
    and `value`. Padding is overwritten by the next part; until then `earlier` masks it.

    Args:
        span: The part.
    """

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        return {}, {}, shape

    def apply(
        params: Params,
        state: State,
        x: KeysAndValues,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        new_key, new_value = x
        if span.is_first:
            keys = _pad(new_key, span.capacity)
            values = _pad(new_value, span.capacity)
        else:
            keys = _write(state["key"], new_key, span.start)
            values = _write(state["value"], new_value, span.start)
        return (keys, values), {"key": keys, "value": values}

    return Layer(init, apply)


def earlier(span: Span, queries: int, keys: int) -> jax.Array:
    """Return for each query of a part which positions it uses, its own and the earlier ones.

    Args:
        span: The part.
        queries: Number of queries.
        keys: Number of positions of keys.

    Returns:
        Booleans (batch, queries, keys).
    """
    positions = span.positions(queries)
    return jnp.arange(keys)[None, None] <= positions[..., None]


def _pad(x: jax.Array, capacity: int) -> jax.Array:
    missing = capacity - x.shape[1]
    return jnp.pad(x, ((0, 0), (0, missing), (0, 0), (0, 0)))


def _write(stored: jax.Array, new: jax.Array, start: jax.Array) -> jax.Array:
    """Write the positions of a part into those stored, at another place for each sequence."""

    def write_one(stored: jax.Array, new: jax.Array, start: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(stored, new, start, axis=0)

    return jax.vmap(write_one)(stored, new.astype(stored.dtype), start)
