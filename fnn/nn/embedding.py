"""Embeddings of tokens and positions."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import DTypeError, ShapeError
from fnn.nn.core.bounds import nan_outside_bounds
from fnn.nn.core.composite import Go, composite
from fnn.nn.core.decoder import per_position
from fnn.nn.core.stateless import stateless
from fnn.nn.core.wide_sums import along_last, take_rows
from fnn.nn.initializers.random import normal
from fnn.types import Initializer, Layer, Number, Params, Shape, Span, State
from fnn.values import maker


@maker
def embed(
    vocabulary: int,
    width: int,
    *,
    table_init: Initializer | None = None,
) -> Layer:
    """Embedding: a learned vector for each token, y = table[x].

    x (batch, ...) integers -> y (batch, ..., width); `table` (vocabulary, width). Where x is traced
    and outside of 0 <= x < vocabulary, y and the gradient are NaN.

    Args:
        vocabulary: Number of tokens.
        width: Size of a vector.
        table_init: Initializer of the table; N(0, 1) if None, as in torch.

    Raises:
        ConfigError: `vocabulary` or `width` is not a whole number >= 1.
        RangeError: A known x is outside of 0 <= x < vocabulary.
        ShapeError: x has no batch axis.
        DTypeError: x does not hold integers. The default `prepare` of `train.recipe` makes floats
            of uint8, as of images: store tokens as int32, or set `prepare=lambda x: x`.
        TreeMismatchError: The params are not those of this layer.
    """
    checks.whole("embed vocabulary", vocabulary)
    checks.whole("embed width", width)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("embed key", key)
        checks.one_shape("embed", shape)
        initializer = table_init or normal(1.0)
        table = initializer(key, (vocabulary, width))
        return {"table": table}, {}, (*shape, width)

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        trees.expect_arrays("embed", params, {"table": (vocabulary, width)})
        checks.one_array("embed x", x)
        # A token without a batch axis would pass the lookup, and fail far from here.
        if x.ndim == 0:
            raise ShapeError(
                "embed x",
                "a batch (batch, ...)",
                x.shape,
                "add a batch axis: x[None]",
            )
        if not jnp.issubdtype(x.dtype, jnp.integer):
            advice = (
                "give tokens as int32: the default `prepare` of a recipe scales uint8 to floats"
            )
            raise DTypeError("embed x", "an integer dtype", x.dtype, advice)
        valid = nan_outside_bounds("embed x", f"0 <= x < {vocabulary}", x, 0, vocabulary)
        # (batch, ...) -> (batch, ..., width). Invalid tokens are clipped here and made NaN below.
        vectors = take_rows(params["table"], x)
        return vectors * valid.astype(vectors.dtype)[..., None], state

    return per_position(Layer(init, apply))


@maker
def unembed(embedding: Layer, vocabulary: int) -> Layer:
    """Scores of all tokens: y = x tableᵀ, with the rows of an embedding as the table.

    x (batch, ..., width) -> y (batch, ..., vocabulary). The table is the output of the embedding
    for 0, ..., vocabulary - 1. To use one table at both ends of a network, pass the layer that
    nn.shared provides [Press & Wolf 2017, arXiv:1608.05859].

    Args:
        embedding: The layer that maps a token to a vector of size width.
        vocabulary: Number of tokens.

    Raises:
        ConfigError: `vocabulary` is not a whole number >= 1.
        ShapeError: x does not end in the width of the embedding.
        DTypeError: x is not of floating point.
    """
    checks.whole("unembed vocabulary", vocabulary)

    # `go` passes a shape or an array through a part of the composite.
    def shapes(go: Go, shape: Shape) -> Shape:
        _expect_width(shape, go("embedding", ()))
        return (*shape[:-1], vocabulary)

    def arrays(go: Go, x: jax.Array) -> jax.Array:
        checks.floating("unembed x", x)
        # The table by the output, not the params, of the embedding: it may be any layer.
        table = go("embedding", jnp.arange(vocabulary))  # (vocabulary, width)
        _expect_width(x.shape, table.shape[1:])
        # (batch, ..., width) @ (width, vocabulary) -> (batch, ..., vocabulary)
        return x @ table.astype(x.dtype).T

    return per_position(composite("unembed", {"embedding": embedding}, shapes, arrays))


@maker
def sinusoidal_positions(*, base: Number = 10_000.0) -> Layer:
    """Add sinusoidal codes of the positions t, with wavelengths from 2π to 2π base.

    y[t, i] = x[t, i] + sin(t / base^(i / width)) for even i, + cos(t / base^((i - 1) / width)) for
    odd i; x and y (batch, time, width) [Vaswani et al. 2017, arXiv:1706.03762].

    Args:
        base: Ratio of the longest to the shortest wavelength, > 0; 10,000 as in the paper.

    Raises:
        ConfigError: `base` is not a number > 0.
        ShapeError: An example is not of shape (time, width).
        DTypeError: x is not of floating point.
    """
    checks.number("sinusoidal_positions base", base, "(0, inf)")

    def out_shape(shape: Shape) -> Shape:
        return _expect_sequence("sinusoidal_positions", shape)

    def add(x: jax.Array) -> jax.Array:
        checks.floating("sinusoidal_positions x", x)
        time, width = out_shape(x.shape[1:])
        # bfloat16 could not represent positions above 256: the code is rounded at the end.
        code = _sinusoids(jnp.arange(time), width, base, trees.wide(x))
        return x + code.astype(x.dtype)[None]

    def decoder(span: Span) -> Layer:
        def add_part(x: jax.Array) -> jax.Array:
            checks.floating("sinusoidal_positions x", x)
            time, width = out_shape(x.shape[1:])
            # (batch, time) -> (batch, time, width)
            positions = span.positions(time)
            codes = jax.vmap(lambda row: _sinusoids(row, width, base, trees.wide(x)))(positions)
            return x + codes.astype(x.dtype)

        return stateless("sinusoidal_positions", out_shape, add_part)

    return replace(stateless("sinusoidal_positions", out_shape, add), decoder=decoder)


@maker
def learned_positions(length: int, *, table_init: Initializer | None = None) -> Layer:
    """Add a learned vector for each position: y[t] = x[t] + table[t].

    x and y (batch, time, width) with time <= length; `table` (length, width)
    [Devlin et al. 2019, arXiv:1810.04805].

    Args:
        length: Largest number of positions.
        table_init: Initializer of the table; N(0, 0.02²) if None, as in BERT.

    Raises:
        ConfigError: `length` is not a whole number >= 1.
        ShapeError: An example is not of shape (time, width), or its time is above `length`.
        DTypeError: x is not of floating point.
        TreeMismatchError: The params are not those of this layer.
    """
    checks.whole("learned_positions length", length)

    def expect_fits(shape: Shape) -> Shape:
        time, _ = _expect_sequence("learned_positions", shape)
        if time > length:
            raise ShapeError(
                "learned_positions x",
                f"at most {length} positions",
                shape,
                "give a larger length, or shorten the sequences",
            )
        return shape

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("learned_positions key", key)
        _, width = expect_fits(shape)
        # Drawn for `length` positions, whatever the length of the first batch.
        initializer = table_init or normal(0.02)
        return {"table": initializer(key, (length, width))}, {}, shape

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        checks.floating("learned_positions x", x)
        time, width = expect_fits(x.shape[1:])
        trees.expect_arrays("learned_positions", params, {"table": (length, width)})
        # (length, width) -> (1, time, width)
        return x + along_last(params["table"][:time].astype(x.dtype), x), state

    def decoder(span: Span) -> Layer:
        if span.capacity > length:
            raise ShapeError(
                "generate learned_positions",
                f"at most length={length} positions",
                f"{span.capacity} of the prompt and of the tokens",
                "generate fewer tokens, or train with rotary positions, which have no limit",
            )

        def apply_part(
            params: Params,
            state: State,
            x: jax.Array,
            *,
            key: jax.Array | None = None,
            train: bool = False,
        ):
            checks.floating("learned_positions x", x)
            time, width = _expect_sequence("learned_positions", x.shape[1:])
            trees.expect_arrays("learned_positions", params, {"table": (length, width)})
            # (batch, time) -> (batch, time, width). Padding may be beyond the last position.
            vectors = jnp.take(params["table"], span.positions(time), axis=0, mode="clip")
            return x + vectors.astype(x.dtype), state

        return Layer(init, apply_part)

    return Layer(init, apply, decoder=decoder)


def _sinusoids(positions: jax.Array, width: int, base: Number, dtype: jnp.dtype) -> jax.Array:
    """Return the codes of the positions (time,), (time, width)."""
    index = jnp.arange(width)
    # Index 2 k and its neighbor 2 k + 1 share a frequency: a sine and a cosine.
    exponent = (index - index % 2).astype(dtype) / width
    frequency = jnp.asarray(trees.knob(base, exponent), dtype) ** -exponent
    # (time, 1) * (1, width) -> (time, width)
    angle = positions.astype(dtype)[:, None] * frequency[None]
    is_even = (index % 2 == 0)[None]
    return jnp.where(is_even, jnp.sin(angle), jnp.cos(angle))


def _expect_width(shape: Shape, expected: Shape) -> None:
    if checks.one_shape("unembed x", shape)[-1:] != expected:
        raise ShapeError(
            "unembed x",
            f"to end in {expected}, as the embedding does",
            shape,
            "make both equally wide",
        )


def _expect_sequence(where: str, shape: Shape) -> Shape:
    if len(checks.one_shape(where, shape)) != 2 or 0 in shape:
        raise ShapeError(
            where,
            "a shape (time, width)",
            tuple(shape),
            "give a batch of sequences (batch, time, width)",
        )
    return shape
