"""Conditional computation: each example through one of several layers."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.nn.combinators.parallel import expect_same_shape
from fnn.nn.core.composite import Go, Parts, composite, name_layers
from fnn.types import Layer, Shape
from fnn.values import maker


@maker
def switch(*layers: Layer, **named: Layer) -> Layer:
    """Each example through the layer of its index, y = Σ_i 1[index = i] f_i(x).

    The input is a pair (index, x) of integers (batch,) and an array (batch, ...), so its shapes are
    ((), (...)). Every layer computes all examples, which also enter its statistics; of each example
    one output is kept. A traced index out of range makes y and its gradient NaN.

    Args:
        layers: Layers, named after their makers and indices as in `chain`.
        named: More layers, under the names of the keyword arguments; their indices follow.

    Raises:
        ConfigError: There are no layers; or, in `apply`, an index is not in 0 <= index < layers.
        DTypeError: The index does not hold integers.
        ShapeError: The layers end in different shapes, or the input is not such a pair.
    """
    parts = name_layers("switch", layers, named)
    if not parts:
        raise ConfigError(
            "switch",
            "at least one layer",
            "0 layers",
            "give the layers to choose from",
        )
    return _switch(parts)


def _switch(parts: Parts) -> Layer:
    def shapes(go: Go, shape: Any) -> Shape:
        if not isinstance(shape, tuple) or len(shape) != 2 or shape[0] != ():
            advice = "an integer an example has the shape ()"
            raise ShapeError(
                "switch",
                "the shapes ((), (...)) of a pair (index, x)",
                shape,
                advice,
            )
        # The index has no channels, so the layers get the shape of x alone.
        out_shapes = [go(name, shape[1]) for name in parts]
        return expect_same_shape("switch", out_shapes)

    def arrays(go: Go, pair: Any) -> jax.Array:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            got = checks.describe_tree(pair)
            advice = "give each example the index of its layer"
            raise ShapeError(
                "switch",
                "a pair (index, x)",
                got,
                advice,
            )
        index, x = pair
        in_range = _in_range(index, x, len(parts))
        # Outputs have to be floats, since integers could not become NaN.
        outputs = [checks.floating("switch y", go(name, x)) for name in parts]
        rank = outputs[0].ndim
        example_index = _expand(index, rank)  # (batch, 1, ..., 1)
        # Selections one after another, so that the outputs need not be stacked into one array.
        y = outputs[0]
        for layer_index in range(1, len(outputs)):
            y = jnp.where(example_index == layer_index, outputs[layer_index], y)
        # A factor, since its NaN reaches the gradient too.
        alarm = jnp.where(in_range, 1, jnp.nan).astype(y.dtype)
        return y * _expand(alarm, rank)

    return composite("switch", parts, shapes, arrays)


def _expand(vector: jax.Array, rank: int) -> jax.Array:
    """Reshape (batch,) to (batch, 1, ..., 1)."""
    return vector.reshape(-1, *(1,) * (rank - 1))


def _in_range(index: Any, x: Any, count: int) -> jax.Array:
    """Return whether each index names a layer; raise ConfigError if a concrete one does not."""
    index = jnp.asarray(index)
    if not jnp.issubdtype(index.dtype, jnp.integer):
        advice = "cast it, as in index.astype(int)"
        raise DTypeError(
            "switch index",
            "an integer dtype",
            index.dtype,
            advice,
        )
    # x may be several arrays of one batch size.
    batch = jax.tree.leaves(x)[0].shape[:1]
    if index.shape != batch:
        expected = f"one for each example, {batch}"
        raise ShapeError(
            "switch index",
            expected,
            index.shape,
            "give one for each example",
        )
    in_range = (index >= 0) & (index < count)
    if checks.is_concrete(in_range) and not in_range.all():
        wrong = index[jnp.argmin(in_range)].item()
        expected = f"0 <= index < {count}"
        raise ConfigError(
            "switch index",
            expected,
            wrong,
            "number the layers from 0",
        )
    return in_range
