"""Embeddings of tokens and positions."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.core.bounds import within
from fnn.nn.core.composite import Go, composite
from fnn.nn.core.stateless import plain
from fnn.nn.initializers.random import normal
from fnn.types import Initializer, Layer, Number, Params, Shape, State
from fnn.values import maker


@maker
def embed(vocabulary: int, width: int, *, table_init: Initializer | None = None) -> Layer:
    """A learned vector for each token, y = table[x].

    x (batch, ...) integers -> y (batch, ..., width); `table` (vocabulary, width), N(0, 1) as in torch. An x outside
    0 <= x < vocabulary is a RangeError where x is known; where it is traced, y and the gradient there are NaN.
    ConfigError unless both sizes >= 1; DTypeError for what are no integers; TreeMismatchError for another table.
    """
    checks.whole("embed vocabulary", vocabulary)
    checks.whole("embed width", width)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("embed key", key)
        return {"table": (table_init or normal(1.0))(key, (vocabulary, width))}, {}, (*shape, width)

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        trees.expect_arrays("embed", params, {"table": (vocabulary, width)})
        if x.ndim == 0:
            raise ShapeError(
                "embed x", "a batch (batch, ...)", x.shape, "add a batch axis: x[None]"
            )
        alarm = within("embed x", f"0 <= x < {vocabulary}", x, 0, vocabulary)
        vectors = jnp.take(params["table"], x, axis=0, mode="clip")
        return vectors * alarm.astype(vectors.dtype)[..., None], state

    return Layer(init, apply)


@maker
def unembed(embedding: Layer, vocabulary: int) -> Layer:
    """The scores of all tokens, y = x tableᵀ, the table being what an embedding gives for 0, ..., vocabulary - 1.

    x (batch, ..., width) -> y (batch, ..., vocabulary). For one table at both ends of a network give the layer that
    nn.shared hands out. ShapeError for an x of another width [Press & Wolf 2017, arXiv:1608.05859].
    """
    checks.whole("unembed vocabulary", vocabulary)

    def shapes(go: Go, shape: Shape) -> Shape:
        _expect_width(shape, go("embedding", ()))
        return (*shape[:-1], vocabulary)

    def arrays(go: Go, x: jax.Array) -> jax.Array:
        checks.floating("unembed x", x)
        table = go("embedding", jnp.arange(vocabulary))
        _expect_width(x.shape, table.shape[1:])
        return x @ table.astype(x.dtype).T

    return composite("unembed", {"embedding": embedding}, shapes, arrays)


def _expect_width(shape: Shape, wanted: Shape) -> None:
    if shape[-1:] != wanted:
        raise ShapeError(
            "unembed x",
            f"to end in {wanted}, as the embedding does",
            shape,
            "make both equally wide",
        )


@maker
def sinusoidal_positions(*, base: Number = 10_000.0) -> Layer:
    """Add to each vector a code of its position t, of waves from length 2π to 2π base.

    y[t, i] = x[t, i] + sin(t / base^(i / width)) for even i, + cos(t / base^((i - 1) / width)) for odd i, where x is
    (batch, time, width). ConfigError unless base > 0; ShapeError for another rank [Vaswani et al. 2017,
    arXiv:1706.03762].
    """
    checks.number("sinusoidal_positions base", base, "(0, inf)")

    def out_shape(shape: Shape) -> Shape:
        return _sequence("sinusoidal_positions", shape)

    def add(x: jax.Array) -> jax.Array:
        time, width = out_shape(checks.floating("sinusoidal_positions x", x).shape[1:])
        return x + _waves(time, width, base, trees.wide(x)).astype(x.dtype)[None]

    return plain("sinusoidal_positions", out_shape, add)


def _waves(time: int, width: int, base: Number, dtype: jnp.dtype) -> jax.Array:
    place = jnp.arange(width)
    exponent = (place - place % 2).astype(dtype) / width
    frequency = jnp.asarray(trees.knob(base, exponent), dtype) ** -exponent
    angle = jnp.arange(time).astype(dtype)[:, None] * frequency[None]
    return jnp.where((place % 2 == 0)[None], jnp.sin(angle), jnp.cos(angle))


@maker
def learned_positions(length: int, *, table_init: Initializer | None = None) -> Layer:
    """Add to each vector a learned one of its position, y[t] = x[t] + table[t].

    x (batch, time, width) with time <= length; `table` (length, width), N(0, 0.02²) as in BERT. ConfigError unless
    length >= 1; ShapeError for another rank or a longer sequence; TreeMismatchError for another table
    [Devlin et al. 2019, arXiv:1810.04805].
    """
    checks.whole("learned_positions length", length)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("learned_positions key", key)
        _, width = _expect_no_longer(shape)
        return {"table": (table_init or normal(0.02))(key, (length, width))}, {}, shape

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        time, width = _expect_no_longer(checks.floating("learned_positions x", x).shape[1:])
        trees.expect_arrays("learned_positions", params, {"table": (length, width)})
        return x + params["table"][None, :time].astype(x.dtype), state

    def _expect_no_longer(shape: Shape) -> Shape:
        if _sequence("learned_positions", shape)[0] > length:
            advice = "give a larger length, or shorten the sequences"
            raise ShapeError("learned_positions x", f"at most {length} positions", shape, advice)
        return shape

    return Layer(init, apply)


def _sequence(where: str, shape: Shape) -> Shape:
    if len(shape) != 2 or 0 in shape:
        raise ShapeError(
            where,
            "a shape (time, width)",
            tuple(shape),
            "give a batch of sequences (batch, time, width)",
        )
    return shape
