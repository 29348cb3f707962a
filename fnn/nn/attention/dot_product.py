"""Scaled dot-product attention, rotary embeddings and the projections of heads."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ShapeError
from fnn.nn.core.decoder import per_position
from fnn.nn.linear import dense
from fnn.types import KERNEL, Initializer, Layer, Number, Params, Shape, State

# The dtypes of `jax.nn.dot_product_attention` on every device.
JAX_DTYPES = (jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16))


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    mask: jax.Array | None = None,
    bias: jax.Array | None = None,
    scale: Number | None = None,
    drop: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
    """Scaled dot-product attention, softmax(scale query keyᵀ + bias) value for each head.

    The softmax is computed in float32 at least [Vaswani et al. 2017, arXiv:1706.03762].

    Args:
        query: (batch, queries, heads, width).
        key: (batch, keys, kv_heads, width), where kv_heads divides heads: head h uses the keys and
            values of h // (heads / kv_heads).
        value: Like `key`.
        mask: Booleans (batch or 1, queries or 1, keys), True for the keys of a query; None for all.
            A query without keys gets 0.
        bias: Numbers (batch, heads, queries, keys) that are added to the scores, or None.
        scale: Factor of the scores; 1 / √width if None.
        drop: Dropout of the attention weights (batch, heads, queries, keys), or None.

    Returns:
        The weighted mean of the values, of the shape of `query`.
    """
    batch, queries, heads, width = query.shape
    _, keys, kv_heads, _ = key.shape
    wide = trees.wide(query)
    # The query is scaled, not the scores. XLA would compute score * scale - max with one rounding
    # but the max with two, and the exponential of the difference overflows for scores of 1e9.
    wide_query = query.astype(wide)
    factor = width**-0.5 if scale is None else trees.knob(scale, wide_query)
    scaled = (wide_query * factor).astype(query.dtype)
    # JAX's own function is faster, but its softmax is float32 at most, it has no dropout, it takes
    # no empty batch, and no float16 on a CPU.
    if drop is None and bias is None and query.dtype in JAX_DTYPES and batch:
        return _attend_by_jax(scaled, key, value, mask)
    group = heads // kv_heads
    grouped = scaled.reshape(batch, queries, kv_heads, group, width)
    # (batch, kv_heads, group, queries, keys)
    scores = jnp.einsum("bqhgd,bkhd->bhgqk", grouped, key, preferred_element_type=wide)
    if bias is not None:
        # (batch, heads, queries, keys) -> (batch, kv_heads, group, queries, keys)
        scores = scores + bias.reshape(scores.shape).astype(wide)
    weights = _masked_softmax(scores, mask)
    # Dropout has one axis of heads, (batch, heads, queries, keys).
    weights = weights.reshape(batch, heads, queries, keys)
    weights = weights.astype(value.dtype)
    if drop is not None:
        weights = drop(weights)
    weights = weights.reshape(batch, kv_heads, group, queries, keys)
    # (batch, queries, kv_heads, group, width) -> (batch, queries, heads, width)
    mean = jnp.einsum("bhgqk,bkhd->bqhgd", weights, value)
    return mean.reshape(query.shape)


def _attend_by_jax(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
) -> jax.Array:
    """Apply `jax.nn.dot_product_attention` to a query that is already scaled."""
    promotion = jax.numpy_dtype_promotion("standard")
    rank_promotion = jax.numpy_rank_promotion("allow")
    # JAX's function itself promotes, which strict settings of the caller would make an error.
    with promotion, rank_promotion:
        if mask is None:
            return jax.nn.dot_product_attention(query, key, value, scale=1.0)
        # (batch, 1, queries, keys): the same mask for every head
        head_mask = mask[:, None]
        mean = jax.nn.dot_product_attention(query, key, value, mask=head_mask, scale=1.0)
        # The softmax of a row without keys is uniform, not 0.
        has_key = mask.any(-1)[..., None, None]  # (batch, queries, 1, 1)
        return jnp.where(has_key, mean, 0)


def _masked_softmax(scores: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Softmax over the keys, scores (batch, kv_heads, group, queries, keys), 0 where masked."""
    if mask is None:
        return jax.nn.softmax(scores)
    mask = mask[:, None, None]  # (batch, 1, 1, queries, keys)
    # The least finite number, since with -inf the softmax and its gradient are NaN in a row
    # without keys.
    lowest = jnp.finfo(scores.dtype).min
    weights = jax.nn.softmax(jnp.where(mask, scores, lowest))
    return jnp.where(mask, weights, 0)


def rotate(
    x: jax.Array,
    positions: jax.Array,
    *,
    base: float = 10_000.0,
) -> jax.Array:
    """Rotary position embedding: rotate pairs of numbers by angles proportional to the position.

    (y_2i + j y_(2i+1)) = (x_2i + j x_(2i+1)) exp(j t base^(-2i / width)). The product of two
    rotated vectors depends on the difference of their positions t only
    [Su et al. 2021, arXiv:2104.09864, eq. 34].

    Args:
        x: (batch, time, heads, width), width even.
        positions: t (time,), or (batch, time) where they differ from sequence to sequence.
        base: Ratio of the longest to the shortest wavelength, about.
    """
    wide = trees.wide(x)
    width = x.shape[-1]
    even_numbers = jnp.arange(0, width, 2)
    frequency = base ** (-even_numbers.astype(wide) / width)
    times = positions.astype(wide)
    if times.ndim == 1:
        times = times[None]  # (1, time)
    angle = times[..., None] * frequency[None, None]  # (batch or 1, time, width / 2)
    angle = angle[:, :, None]  # (batch or 1, time, 1, width / 2)
    even = x[..., ::2].astype(wide)
    odd = x[..., 1::2].astype(wide)
    cos = jnp.cos(angle)
    sin = jnp.sin(angle)
    rotated_even = even * cos - odd * sin
    rotated_odd = even * sin + odd * cos
    # (batch, time, heads, width / 2, 2) -> (batch, time, heads, width): the pairs interleaved
    rotated = jnp.stack([rotated_even, rotated_odd], axis=-1)
    return rotated.reshape(x.shape).astype(x.dtype)


def projection(
    units: Callable[[int], int],
    use_bias: bool = True,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Make a dense layer whose number of units depends on the width of x.

    Args:
        units: (inputs) -> units.
        use_bias: Whether the layer has a bias.
        kernel_init: Initializer of the kernel, that of `dense` if None.
    """

    def layer(inputs: int) -> Layer:
        return dense(units(inputs), use_bias=use_bias, kernel_init=kernel_init)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        return layer(shape[-1]).init(key, shape)

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        inputs = x.shape[-1]
        return layer(inputs).apply(params, state, x)

    return per_position(Layer(init, apply, "dense"))


class HeadsShape(tuple[int, ...]):
    """The shape (time, heads head_width) of the outputs of all heads, with the width of x.

    Attributes:
        width: The width of x, which `output_projection` returns to.
    """

    width: int


def heads_shape(shape: Shape, width: int) -> HeadsShape:
    """Return a shape as that of the outputs of all heads, for x of this width."""
    heads = HeadsShape(shape)
    heads.width = width
    return heads


def output_projection(
    use_bias: bool = True,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Make the dense layer from the outputs of all heads to the width of x.

    Args:
        use_bias: Whether the layer has a bias.
        kernel_init: Initializer of the kernel, that of `dense` if None.
    """

    def layer(units: int) -> Layer:
        return dense(units, use_bias=use_bias, kernel_init=kernel_init)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        # A plain shape if the layer was taken out of its attention.
        units = shape.width if isinstance(shape, HeadsShape) else shape[-1]
        return layer(units).init(key, shape)

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        # The width of x is known to the kernel only. Other params fail the checks of `dense`.
        kernel_shape = jnp.shape(params.get(KERNEL, 0)) if isinstance(params, Mapping) else ()
        units = kernel_shape[1] if len(kernel_shape) == 2 else x.shape[-1]
        return layer(units).apply(params, state, x)

    return per_position(Layer(init, apply, "dense"))


def divide_width(
    where: str,
    width: int,
    parts: int,
) -> int:
    """Return width / parts; raise ShapeError unless it is whole."""
    if width % parts:
        expected = f"a width that {parts} divides"
        raise ShapeError(where, expected, width, "choose another width or another count")
    return width // parts
