"""Tokens as vectors, and vectors as scores of tokens."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.bounds import within
from fnn.nn.composite import Go, composite
from fnn.nn.initializers.scaled import normal
from fnn.types import Initializer, Layer, Params, Shape, State
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

    def apply(params: Params, state: State, x: jax.Array, *, key: jax.Array | None = None, train: bool = False):
        trees.expect_arrays("embed", params, {"table": (vocabulary, width)})
        if x.ndim == 0:
            raise ShapeError("embed x", "a batch (batch, ...)", x.shape, "add a batch axis: x[None]")
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
        raise ShapeError("unembed x", f"to end in {wanted}, as the embedding does", shape, "make both equally wide")
