"""Sequences that look at themselves, or at another."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.nn.attention.dot_product import attend, divided, projection, rotate
from fnn.nn.core.composite import Go, composite
from fnn.nn.dropout import dropout
from fnn.types import Initializer, Layer, Number, Shape
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
    kernel_init: Initializer | None = None,
) -> Layer:
    """Each vector of a sequence asks all of them: y = [softmax(q_h k_hᵀ / √head_width) v_h for each head h] W_o + b_o.

    x (batch, time, width), or the pair of it and a boolean mask, True for what is seen: (batch, time) for keys, or
    (batch, time, time) for queries and keys; y (batch, time, heads head_width). q, k and v are dense layers of x, the
    params `query`, `key`, `value` and `output`; head_width is width / heads unless given. `causal`: none sees a later
    one. `kv_heads` < heads: so many keys and values are shared by groups of heads. `rotary`: q and k are turned by
    their positions. `drop_rate`: shares dropped in training. A query that sees nothing mixes 0, so y is b_o.
    ConfigError, ShapeError or DTypeError for what does not fit [Vaswani et al. 2017, arXiv:1706.03762; Ainslie et al.
    2023, arXiv:2305.13245; Su et al. 2021, arXiv:2104.09864].
    """
    kind = _kind("attention", ("x",), heads, kv_heads, causal, rotary)
    return _looking(kind, _parts(kind, head_width, use_bias, drop_rate, kernel_init))


@maker
def cross_attention(
    heads: int,
    *,
    kv_heads: int | None = None,
    head_width: int | None = None,
    use_bias: bool = True,
    drop_rate: Number | None = None,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Each vector of a sequence asks those of another, the memory: nn.attention with k and v made of the memory.

    x is a pair of sequences (batch, queries, width) and (batch, keys, memory_width), or a triple with a boolean mask,
    (batch, keys) or (batch, queries, keys); y (batch, queries, heads head_width). head_width has to be given where the
    two widths differ. The params, options and errors are those of nn.attention
    [Vaswani et al. 2017, arXiv:1706.03762].
    """
    kind = _kind("cross_attention", ("x", "memory"), heads, kv_heads)
    return _looking(kind, _parts(kind, head_width, use_bias, drop_rate, kernel_init))


class Kind(NamedTuple):
    """What an attention is, besides its params."""

    where: str
    sequences: tuple[str, ...]  # what it takes in, before the mask
    heads: int
    kv_heads: int
    causal: bool = False
    rotary: bool = False


def _kind(
    where: str,
    sequences: tuple[str, ...],
    heads: int,
    kv_heads: int | None,
    causal: bool = False,
    rotary: bool = False,
) -> Kind:
    checks.whole(f"{where} heads", heads)
    checks.flag(f"{where} causal", causal)
    checks.flag(f"{where} rotary", rotary)
    kv_heads = checks.whole(f"{where} kv_heads", heads if kv_heads is None else kv_heads)
    if heads % kv_heads:
        raise ConfigError(
            f"{where} kv_heads",
            f"a divisor of heads={heads}",
            kv_heads,
            "groups of heads are equal",
        )
    return Kind(where, sequences, heads, kv_heads, causal, rotary)


def _parts(
    kind: Kind,
    head_width: int | None,
    use_bias: bool,
    drop_rate: Number | None,
    kernel_init: Initializer | None,
) -> Mapping[str, Layer]:
    where, _, heads, kv_heads, *_ = kind
    checks.flag(f"{where} use_bias", use_bias)
    if head_width is not None:
        checks.whole(f"{where} head_width", head_width)

    def wide(count: int) -> Layer:
        def units(inputs: int) -> int:
            return count * (head_width or divided(f"{where} width", inputs, heads))

        return projection(units, use_bias, kernel_init)

    output = projection(lambda inputs: inputs, use_bias, kernel_init)
    parts = {"query": wide(heads), "key": wide(kv_heads), "value": wide(kv_heads), "output": output}
    return parts if drop_rate is None else parts | {"shares": dropout(drop_rate)}


def _looking(kind: Kind, parts: Mapping[str, Layer]) -> Layer:
    where, _, heads, kv_heads, causal, rotary = kind

    def shapes(go: Go, shape: Any) -> Shape:
        x, memory, mask = _given(kind, shape, trees.is_shape(shape))
        _expect_shapes(kind, x, memory, mask)
        asked, keys, values = go("query", x), go("key", memory), go("value", memory)
        _expect_heads(kind, asked[-1], keys[-1], values[-1])
        return go("output", asked)

    def arrays(go: Go, x: Any) -> jax.Array:
        x, memory, mask = _given(kind, x, not isinstance(x, tuple))
        _expect_arrays(kind, x, memory, mask)
        query, key, value = go("query", x), go("key", memory), go("value", memory)
        _expect_heads(kind, query.shape[-1], key.shape[-1], value.shape[-1])
        query, key, value = _split(query, heads), _split(key, kv_heads), _split(value, kv_heads)
        if rotary:
            query, key = (rotate(part, jnp.arange(part.shape[1])) for part in (query, key))
        drop = partial(go, "shares") if "shares" in parts else None
        mixed = attend(query, key, value, seen=_seen(mask, x.shape[1], causal), drop=drop)
        return go("output", mixed.reshape(*mixed.shape[:2], -1))

    return composite(where, parts, shapes, arrays)


def _split(x: jax.Array, heads: int) -> jax.Array:
    return x.reshape(*x.shape[:2], heads, -1)  # (batch, time, heads, head_width)


def _seen(mask: jax.Array | None, time: int, causal: bool) -> jax.Array | None:
    """What each query sees, (batch or 1, queries or 1, keys)."""
    if mask is not None:
        mask = mask[:, None] if mask.ndim == 2 else mask
    if not causal:
        return mask
    earlier = jnp.tril(jnp.ones((time, time), bool))[None]
    return earlier if mask is None else mask & earlier


def _given(kind: Kind, x: Any, alone: bool) -> tuple[Any, Any, Any]:
    """The sequence that asks, the one that is asked, and the mask or None, of arrays or of their shapes."""
    given = (x,) if alone else tuple(x)
    few = len(kind.sequences)
    if len(given) not in (few, few + 1):
        wanted = f"({', '.join(kind.sequences)}), with or without a mask"
        raise ShapeError(kind.where, wanted, f"{len(given)} arrays", "give them as one tuple")
    return given[0], given[few - 1], given[few] if len(given) > few else None


def _expect_shapes(kind: Kind, x: Shape, memory: Shape, mask: Shape | None) -> None:
    for name, shape in zip(kind.sequences, (x, memory), strict=False):
        if not trees.is_shape(shape) or len(shape) != 2 or 0 in shape:
            advice = "give a batch of sequences (batch, time, width)"
            raise ShapeError(f"{kind.where} {name}", "a shape (time, width)", shape, advice)
    wanted = (memory[0],), (x[0], memory[0])
    if mask is not None and mask not in wanted:
        advice = "give one boolean for each key, or for each query and key"
        raise ShapeError(f"{kind.where} mask", f"a shape {wanted[0]} or {wanted[1]}", mask, advice)


def _expect_arrays(kind: Kind, x: jax.Array, memory: jax.Array, mask: jax.Array | None) -> None:
    _expect_shapes(kind, x.shape[1:], memory.shape[1:], None if mask is None else mask.shape[1:])
    for name, array in zip(kind.sequences, (x, memory), strict=False):
        checks.floating(f"{kind.where} {name}", array)
    if mask is not None and mask.dtype != bool:
        raise DTypeError(
            f"{kind.where} mask",
            "booleans, True for what is seen",
            mask.dtype,
            "compare, as in mask > 0",
        )
    for name, other in (("memory", memory), ("mask", mask)):
        if other is not None and other.shape[0] != x.shape[0]:
            advice = "nothing is broadcast over the batch"
            raise ShapeError(
                f"{kind.where} {name}", f"a batch of {x.shape[0]} as x", other.shape, advice
            )


def _expect_heads(kind: Kind, query: int, key: int, value: int) -> None:
    """The widths of all heads together must fit: those of another memory need not."""
    wanted = divided(f"{kind.where} query", query, kind.heads) * kind.kv_heads
    if kind.rotary and (query // kind.heads) % 2:
        raise ShapeError(
            f"{kind.where} rotary",
            "an even head width",
            query // kind.heads,
            "it turns pairs of numbers",
        )
    for name, width in {"key": key, "value": value}.items():
        if width != wanted:
            raise ShapeError(
                f"{kind.where} {name}",
                f"{wanted} wide as the query's heads",
                width,
                "give head_width=",
            )
