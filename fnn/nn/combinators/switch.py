"""Each example its own way."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.nn.combinators.parallel import same_shape
from fnn.nn.core.composite import Go, Parts, by_place, composite
from fnn.types import Layer, Shape
from fnn.values import maker


@maker
def switch(*layers: Layer, **named: Layer) -> Layer:
    """Each example through the layer that it names, y = Σ_i 1[index = i] f_i(x).

    It takes in the pair (index, x) of integers (batch,) and of (batch, ...), so the shapes ((), (...)). All layers
    compute all examples, with all of them in their statistics, and one's output is kept. Names are those of `chain`.
    An index outside 0 <= index < layers is a ConfigError, or NaN in y and its gradient where it is traced. ConfigError
    for no layers; ShapeError where the layers end differently, or what is taken in is no such pair.
    """
    parts = by_place("switch", layers, named)
    if not parts:
        raise ConfigError(
            "switch", "at least one layer", "none", "give the ways that an example may go"
        )
    return _switch(parts)


def _switch(parts: Parts) -> Layer:
    def shapes(go: Go, shape: Any) -> Shape:
        if not isinstance(shape, tuple) or len(shape) != 2 or shape[0] != ():
            advice = "an integer an example has the shape ()"
            raise ShapeError("switch", "the shapes ((), (...)) of a pair (index, x)", shape, advice)
        return same_shape("switch", [go(name, shape[1]) for name in parts])

    def arrays(go: Go, pair: Any) -> jax.Array:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            got = checks.describe(pair) if hasattr(pair, "dtype") else repr(pair)
            raise ShapeError(
                "switch", "a pair (index, x)", got, "give each example the number of its layer"
            )
        index, x = pair
        known = _known(index, x, len(parts))
        outputs = [checks.floating("switch y", go(name, x)) for name in parts]
        rank = outputs[0].ndim
        chosen = _along_first(index, rank)
        y = reduce(
            lambda y, way: jnp.where(chosen == way, outputs[way], y),
            range(1, len(outputs)),
            outputs[0],
        )
        return y * _along_first(jnp.where(known, 1, jnp.nan).astype(y.dtype), rank)

    return composite("switch", parts, shapes, arrays)


def _along_first(vector: jax.Array, rank: int) -> jax.Array:
    return vector.reshape(-1, *(1,) * (rank - 1))


def _known(index: Any, x: Any, count: int) -> jax.Array:
    """Whether each index names a layer; ConfigError where that is known to be false now."""
    index = jnp.asarray(index)
    if not jnp.issubdtype(index.dtype, jnp.integer):
        raise DTypeError(
            "switch index", "an integer dtype", index.dtype, "cast it, as in index.astype(int)"
        )
    batch = jax.tree.leaves(x)[0].shape[:1]
    if index.shape != batch:
        raise ShapeError(
            "switch index",
            f"one for each example, {batch}",
            index.shape,
            "give one for each example",
        )
    known = (index >= 0) & (index < count)
    if checks.is_concrete(known) and not known.all():
        wrong = index[jnp.argmin(known)].item()
        raise ConfigError(
            "switch index", f"0 <= index < {count}", wrong, "number the layers from 0"
        )
    return known
