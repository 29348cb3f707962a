"""Multi-head self-attention and cross-attention layers."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.nn.attention.cache import earlier, key_value_cache
from fnn.nn.attention.dot_product import (
    attend,
    divide_width,
    heads_shape,
    output_projection,
    projection,
    rotate,
)
from fnn.nn.core.composite import Go, composite
from fnn.nn.dropout import dropout
from fnn.types import Initializer, Layer, Number, Shape, Span
from fnn.values import maker


@maker
def attention(
    heads: int,
    *,
    kv_heads: int | None = None,
    head_width: int | None = None,
    causal: bool = False,
    rotary: bool = False,
    use_bias: bool = True,
    drop_rate: Number | None = None,
    scale: Number | None = None,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Multi-head self-attention [Vaswani et al. 2017, arXiv:1706.03762].

    y = [softmax(scale q_h k_hᵀ) v_h for each head h] W_o + b_o, where q, k and v are dense layers
    of x. The params are `query`, `key`, `value` and `output`, those of the dense layers.
    x (batch, time, width), or a pair of it and a boolean mask, True for the keys that a query
    uses: (batch, time) for keys, or (batch, time, time) for queries and keys. Floats
    (batch, heads, time, time) in its place are a bias that is added to the scores of each head, as
    for relative positions; -inf masks.
    y (batch, time, width). A query without keys gets b_o.

    Args:
        heads: Number of attention heads.
        kv_heads: Number of heads of keys and values, a divisor of `heads`; each serves a group of
            query heads [Ainslie et al. 2023, arXiv:2305.13245]. `heads` if None.
        head_width: Width of a head; width / heads if None. W_o returns to the width of x.
        causal: Whether each query uses only keys of its own and earlier positions.
        rotary: Whether q and k are rotated by their positions, which needs an even head width
            [Su et al. 2021, arXiv:2104.09864].
        use_bias: Whether the dense layers have a bias.
        drop_rate: Probability of dropping an attention weight in training; no dropout if None.
        scale: Factor of the scores; 1 / √head_width if None.
        kernel_init: Initializer of the kernels, that of `dense` if None.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: x or the mask has another shape, or the heads do not divide the width.
        DTypeError: x is not floating-point, or the mask is not boolean.
    """
    spec = _attention_spec("attention", ("x",), heads, kv_heads, scale, causal, rotary)
    return _attention(spec, _parts(spec, head_width, use_bias, drop_rate, kernel_init))


@maker
def cross_attention(
    heads: int,
    *,
    kv_heads: int | None = None,
    head_width: int | None = None,
    use_bias: bool = True,
    drop_rate: Number | None = None,
    scale: Number | None = None,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Multi-head cross-attention: q from x, k and v from a memory [Vaswani et al. 2017].

    The input is a pair, x (batch, queries, width) and the memory (batch, keys, memory_width), or a
    triple with a boolean mask, (batch, keys) or (batch, queries, keys), True for the keys that a
    query uses, or with a bias (batch, heads, queries, keys). y (batch, queries, width). The formula
    and params are those of `attention`.

    Args:
        heads: Number of attention heads.
        kv_heads: Number of heads of keys and values, a divisor of `heads`; `heads` if None.
        head_width: Width of a head; width / heads if None. Required where the memory has another
            width than x.
        use_bias: Whether the dense layers have a bias.
        drop_rate: Probability of dropping an attention weight in training; no dropout if None.
        scale: Factor of the scores; 1 / √head_width if None.
        kernel_init: Initializer of the kernels, that of `dense` if None.

    Raises:
        ConfigError, ShapeError, DTypeError: As `attention`.
    """
    spec = _attention_spec("cross_attention", ("x", "memory"), heads, kv_heads, scale)
    return _attention(spec, _parts(spec, head_width, use_bias, drop_rate, kernel_init))


class AttentionSpec(NamedTuple):
    """The options of an attention layer that its forward pass depends on.

    Attributes:
        where: Name of the layer, for errors.
        sequences: Names of the input sequences, before the mask.
        heads: Number of query heads.
        kv_heads: Number of heads of keys and values.
        scale: Factor of the scores, or None.
        causal: Whether later keys are masked.
        rotary: Whether queries and keys are rotated by their positions.
    """

    where: str
    sequences: tuple[str, ...]
    heads: int
    kv_heads: int
    scale: Number | None
    causal: bool = False
    rotary: bool = False


def _attention_spec(
    where: str,
    sequences: tuple[str, ...],
    heads: int,
    kv_heads: int | None,
    scale: Number | None,
    causal: bool = False,
    rotary: bool = False,
) -> AttentionSpec:
    checks.whole(f"{where} heads", heads)
    checks.flag(f"{where} causal", causal)
    checks.flag(f"{where} rotary", rotary)
    if scale is not None:
        checks.number(f"{where} scale", scale, "(-inf, inf)")
    if kv_heads is None:
        kv_heads = heads
    kv_heads = checks.whole(f"{where} kv_heads", kv_heads)
    if heads % kv_heads:
        expected = f"a divisor of heads={heads}"
        raise ConfigError(f"{where} kv_heads", expected, kv_heads, "groups of heads are equal")
    return AttentionSpec(where, sequences, heads, kv_heads, scale, causal, rotary)


def _parts(
    spec: AttentionSpec,
    head_width: int | None,
    use_bias: bool,
    drop_rate: Number | None,
    kernel_init: Initializer | None,
) -> Mapping[str, Layer]:
    checks.flag(f"{spec.where} use_bias", use_bias)
    if head_width is not None:
        checks.whole(f"{spec.where} head_width", head_width)

    def project_to_heads(count: int) -> Layer:
        def units(inputs: int) -> int:
            # For keys and values `inputs` is the width of the memory.
            width = head_width or divide_width(f"{spec.where} width", inputs, spec.heads)
            return count * width

        return projection(units, use_bias, kernel_init)

    parts = {
        "query": project_to_heads(spec.heads),
        "key": project_to_heads(spec.kv_heads),
        "value": project_to_heads(spec.kv_heads),
        "output": output_projection(use_bias, kernel_init),
    }
    if drop_rate is not None:
        # The last part, so that the keys of the others do not depend on it.
        parts["shares"] = dropout(drop_rate)
    return parts


def _attention(spec: AttentionSpec, parts: Mapping[str, Layer]) -> Layer:
    def shapes(go: Go, shape: Any) -> Shape:
        x, memory, mask = _split_inputs(spec, shape, trees.is_shape(shape))
        _expect_shapes(spec, x, memory, mask)
        query = go("query", x)
        key = go("key", memory)
        value = go("value", memory)
        _expect_widths(spec, query[-1], key[-1], value[-1])
        return go("output", heads_shape(query, x[-1]))

    def arrays(go: Go, x: Any) -> jax.Array:
        x, memory, mask = _split_inputs(spec, x, not isinstance(x, tuple))
        _expect_arrays(spec, x, memory, mask)
        query, key, value = _project(spec, go, x, memory, jnp.arange(x.shape[1]))
        mask, bias = _split_mask(mask)
        mask = _full_mask(mask, x.shape[1], spec.causal)
        # Tested by name, since the parts may have been replaced by others.
        drop = partial(go, "shares") if "shares" in parts else None
        mean = attend(query, key, value, mask=mask, bias=bias, scale=spec.scale, drop=drop)
        return _output(go, mean)

    with_parts = partial(_attention, spec)
    # Without a causal mask, y depends on later positions.
    decoder = partial(_decoder, spec, parts) if spec.causal else None
    layer = composite(spec.where, parts, shapes, arrays)
    return replace(layer, with_parts=with_parts, decoder=decoder)


def _decoder(spec: AttentionSpec, parts: Mapping[str, Layer], span: Span) -> Layer:
    """Causal self-attention of the queries of one part of each sequence."""

    def shapes(go: Go, shape: Any) -> Shape:
        raise ConfigError(spec.where, "params of the network", "init", "call init of the network")

    def arrays(go: Go, x: Any) -> jax.Array:
        if isinstance(x, tuple):
            advice = "generate without a mask: the lengths of the prompts are masked"
            raise ShapeError(f"generate {spec.where}", "one array x", "a tuple", advice)
        _expect_arrays(spec, x, x, None)
        time = x.shape[1]
        query, key, value = _project(spec, go, x, x, span.positions(time))
        cached_key, cached_value = go("cache", (key, value))
        if not span.is_first:
            key = cached_key.astype(key.dtype)
            value = cached_value.astype(value.dtype)
        mask = earlier(span, time, key.shape[1])
        return _output(go, attend(query, key, value, mask=mask, scale=spec.scale))

    # The last part, so that the keys of the others do not depend on it.
    return composite(spec.where, {**parts, "cache": key_value_cache(span)}, shapes, arrays)


def _project(
    spec: AttentionSpec,
    go: Go,
    x: jax.Array,
    memory: jax.Array,
    positions: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return queries, keys and values, each (batch, time, heads or kv_heads, head_width)."""
    query = go("query", x)  # (batch, queries, heads head_width)
    key = go("key", memory)  # (batch, keys, kv_heads head_width)
    value = go("value", memory)
    _expect_widths(spec, query.shape[-1], key.shape[-1], value.shape[-1])
    query = _split_heads(query, spec.heads)
    key = _split_heads(key, spec.kv_heads)
    value = _split_heads(value, spec.kv_heads)
    if spec.rotary:
        # Self-attention only, so that both have positions of one sequence.
        query = rotate(query, positions)
        key = rotate(key, positions)
    return query, key, value


def _output(go: Go, mean: jax.Array) -> jax.Array:
    """Map the means of all heads to y."""
    # (batch, time, heads, head_width) -> (batch, time, heads head_width)
    batch, time, heads, head_width = mean.shape
    # The width is given, since -1 is not defined for a batch of 0.
    mean = mean.reshape(batch, time, heads * head_width)
    return go("output", mean)


def _split_heads(x: jax.Array, heads: int) -> jax.Array:
    batch, time, width = x.shape
    # (batch, time, heads head_width) -> (batch, time, heads, head_width)
    return x.reshape(batch, time, heads, width // heads)


def _full_mask(
    mask: jax.Array | None,
    time: int,
    causal: bool,
) -> jax.Array | None:
    """Combine the given and the causal mask to (batch or 1, queries or 1, keys), or None."""
    if mask is not None and mask.ndim == 2:
        mask = mask[:, None]  # (batch, 1, keys): the same keys for every query
    if not causal:
        return mask
    # Row q has True for the keys up to q.
    earlier = jnp.tril(jnp.ones((time, time), bool))
    earlier = earlier[None]  # (1, queries, keys)
    if mask is None:
        return earlier
    return mask & earlier  # (batch, queries, keys)


def _split_mask(mask: jax.Array | None) -> tuple[jax.Array | None, jax.Array | None]:
    """Return (mask, None), or (None, bias) of a bias (batch, heads, queries, keys)."""
    is_bias = mask is not None and mask.ndim == 4
    return (None, mask) if is_bias else (mask, None)


def _split_inputs(
    spec: AttentionSpec,
    x: Any,
    is_single: bool,
) -> tuple[Any, Any, Any]:
    """Return (x, memory, mask or None) of the input, arrays or their shapes.

    Self-attention uses x as the memory.
    """
    inputs = (x,) if is_single else tuple(x)
    count = len(spec.sequences)
    if len(inputs) not in (count, count + 1):
        expected = f"({', '.join(spec.sequences)}), with or without a mask"
        raise ShapeError(spec.where, expected, f"{len(inputs)} arrays", "give them as one tuple")
    x, *rest = inputs
    # (x,) or (x, mask); (x, memory) or (x, memory, mask)
    memory = inputs[count - 1]
    mask = rest[-1] if len(inputs) > count else None
    return x, memory, mask


def _expect_shapes(
    spec: AttentionSpec,
    x: Shape,
    memory: Shape,
    mask: Shape | None,
) -> None:
    # Self-attention names x only, so that the memory, which is x again, is not checked twice.
    for name, shape in zip(spec.sequences, (x, memory), strict=False):
        is_sequence = trees.is_shape(shape) and len(shape) == 2
        if not is_sequence or 0 in shape:
            where = f"{spec.where} {name}"
            advice = "give a batch of sequences (batch, time, width)"
            raise ShapeError(where, "a shape (time, width)", shape, advice)
    of_keys = (memory[0],)
    of_queries_and_keys = (x[0], memory[0])
    of_heads = (spec.heads, *of_queries_and_keys)
    if mask is not None and mask not in (of_keys, of_queries_and_keys, of_heads):
        expected = f"a shape {of_keys} or {of_queries_and_keys}"
        advice = f"give one boolean for each key, or for each query and key, or a bias {of_heads}"
        raise ShapeError(f"{spec.where} mask", expected, mask, advice)


def _expect_arrays(
    spec: AttentionSpec,
    x: jax.Array,
    memory: jax.Array,
    mask: jax.Array | None,
) -> None:
    mask_shape = None if mask is None else mask.shape[1:]
    _expect_shapes(spec, x.shape[1:], memory.shape[1:], mask_shape)
    for name, array in zip(spec.sequences, (x, memory), strict=False):
        checks.floating(f"{spec.where} {name}", array)
    if mask is not None:
        _expect_mask(spec, mask)
    batch = x.shape[0]
    for name, other in (("memory", memory), ("mask", mask)):
        if other is None or other.shape[0] == batch:
            continue
        where = f"{spec.where} {name}"
        advice = "nothing is broadcast over the batch"
        raise ShapeError(where, f"a batch of {batch} as x", other.shape, advice)


def _expect_mask(spec: AttentionSpec, mask: jax.Array) -> None:
    where = f"{spec.where} mask"
    # Floats without an axis of heads might be a mask of 0 and 1, so they are no bias.
    if mask.ndim == 4:
        checks.floating(f"{spec.where} bias", mask)
    elif mask.dtype != bool:
        expected = "booleans, True for the keys to use"
        advice = "compare, as in mask > 0; a bias has an axis of heads, (batch, heads, ...)"
        raise DTypeError(where, expected, mask.dtype, advice)


def _expect_widths(
    spec: AttentionSpec,
    query: int,
    key: int,
    value: int,
) -> None:
    """Raise ShapeError unless all heads together have widths that fit.

    They do not if the memory has another width than x and no `head_width` is given.
    """
    where = spec.where
    head_width = divide_width(f"{where} query", query, spec.heads)
    if spec.rotary and head_width % 2:
        advice = "it rotates pairs of numbers"
        raise ShapeError(f"{where} rotary", "an even head width", head_width, advice)
    kv_width = head_width * spec.kv_heads
    for name, width in {"key": key, "value": value}.items():
        if width != kv_width:
            expected = f"{kv_width} wide as the query's heads"
            raise ShapeError(f"{where} {name}", expected, width, "give head_width=")
