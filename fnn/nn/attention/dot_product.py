"""Scaled dot-product attention, rotary embeddings and the projections of heads."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ShapeError
from fnn.nn.linear import dense
from fnn.types import Initializer, Layer, Params, Shape, State


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    seen: jax.Array | None = None,
    drop: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
    """The mix of the values for each query, softmax(query keyᵀ / √width) value, head by head.

    query (batch, queries, heads, width); key and value (batch, keys, kv_heads, width), kv_heads dividing heads: head h
    reads the kv_head h // (heads / kv_heads). seen, if given, is boolean (batch or 1, queries or 1, keys). A query that
    sees nothing gets 0. drop is applied to the shares (batch, heads, queries, keys). The softmax is taken in float32
    at least [Vaswani et al. 2017, arXiv:1706.03762].
    """
    batch, queries, heads, width = query.shape
    kv_heads, keys = key.shape[2], key.shape[1]
    # The query is scaled, not the scores: XLA would take score * scale - max in one rounding and the max in two, and
    # the exponential of what is left overflows for scores of 1e9 and more.
    scaled = (query.astype(trees.wide(query)) * width**-0.5).astype(query.dtype)
    # JAX's own takes the softmax in float32 at most, and shows no shares to drop from.
    if drop is None and query.dtype != jnp.float64:
        return _by_jax(scaled, key, value, seen)
    grouped = scaled.reshape(batch, queries, kv_heads, heads // kv_heads, width)
    scores = jnp.einsum("bqhgd,bkhd->bhgqk", grouped, key, preferred_element_type=trees.wide(query))
    shares = _softmax(scores, seen).reshape(batch, heads, queries, keys).astype(value.dtype)
    shares = shares if drop is None else drop(shares)
    shares = shares.reshape(batch, kv_heads, heads // kv_heads, queries, keys)
    return jnp.einsum("bhgqk,bkhd->bqhgd", shares, value).reshape(query.shape)


def _by_jax(
    query: jax.Array, key: jax.Array, value: jax.Array, seen: jax.Array | None
) -> jax.Array:
    """The same for a query that is scaled already."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):  # it promotes within
        if seen is None:
            return jax.nn.dot_product_attention(query, key, value, scale=1.0)
        mixed = jax.nn.dot_product_attention(query, key, value, mask=seen[:, None], scale=1.0)
        return jnp.where(
            seen.any(-1)[..., None, None], mixed, 0
        )  # a row that sees nothing would see all alike


def _softmax(scores: jax.Array, seen: jax.Array | None) -> jax.Array:
    if seen is None:
        return jax.nn.softmax(scores)
    seen = seen[:, None, None]  # for every head
    # Held back by the least number, not by -inf, whose softmax and gradient are NaN in a row that sees nothing.
    return jnp.where(seen, jax.nn.softmax(jnp.where(seen, scores, jnp.finfo(scores.dtype).min)), 0)


def rotate(x: jax.Array, positions: jax.Array, *, base: float = 10_000.0) -> jax.Array:
    """Turn each pair of neighboring numbers, seen as one complex number, by an angle in proportion to its position.

    (y_2i + j y_(2i+1)) = (x_2i + j x_(2i+1)) exp(j t base^(-2i / width)) for x (batch, time, heads, width), width
    even, and its positions t (time,). So the product of two turned vectors tells how far apart they stand, not where
    [Su et al. 2021, arXiv:2104.09864, eq. 34].
    """
    wide, width = trees.wide(x), x.shape[-1]
    frequency = base ** (-jnp.arange(0, width, 2).astype(wide) / width)
    angle = (positions.astype(wide)[:, None] * frequency[None])[
        None, :, None
    ]  # (1, time, 1, width / 2)
    even, odd = x[..., ::2].astype(wide), x[..., 1::2].astype(wide)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)


def projection(
    units: Callable[[int], int], use_bias: bool = True, kernel_init: Initializer | None = None
) -> Layer:
    """The dense layer of units(inputs) units, for a width that is known only when x is."""

    def of(inputs: int) -> Layer:
        return dense(units(inputs), use_bias=use_bias, kernel_init=kernel_init)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        return of(shape[-1]).init(key, shape)

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        return of(x.shape[-1]).apply(params, state, x)

    return Layer(init, apply, "dense")


def divided(where: str, width: int, parts: int) -> int:
    """A part of the width; ShapeError unless the parts are equal."""
    if width % parts:
        raise ShapeError(
            where, f"a width that {parts} divides", width, "choose another width or another count"
        )
    return width // parts
