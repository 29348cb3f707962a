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
        new_state = {"key": keys, "value": values}
        return (keys, values), new_state

    return Layer(init, apply)


def earlier(
    span: Span,
    queries: int,
    keys: int,
) -> jax.Array:
    """Return for each query of a part which positions it uses, its own and the earlier ones.

    Args:
        span: The part.
        queries: Number of queries.
        keys: Number of positions of keys.

    Returns:
        Booleans (batch, queries, keys).
    """
    positions = span.positions(queries)  # (batch, queries)
    key_positions = jnp.arange(keys)
    # (1, 1, keys) <= (batch, queries, 1)
    return key_positions[None, None] <= positions[..., None]


def _pad(x: jax.Array, capacity: int) -> jax.Array:
    # Later parts are written into the zeros, so that the shape never changes.
    missing = capacity - x.shape[1]
    none = (0, 0)
    after = (0, missing)
    return jnp.pad(x, (none, after, none, none))


def _write(
    stored: jax.Array,
    new: jax.Array,
    start: jax.Array,
) -> jax.Array:
    """Write the positions of a part into those stored, at another place for each sequence."""

    def write_one(
        stored: jax.Array,
        new: jax.Array,
        start: jax.Array,
    ) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(stored, new, start, axis=0)

    # The cache keeps its dtype, since it is the carry of a loop.
    converted = new.astype(stored.dtype)
    return jax.vmap(write_one)(stored, converted, start)
