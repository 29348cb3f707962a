"""An array that is trained by itself."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.types import Initializer, Layer, Params, Shape, State
from fnn.values import maker


@maker
def parameter(*shape: int, init: Initializer) -> Layer:
    """A trained array, the same for every example whatever x is, y[i] = value.

    x (batch, ...) -> y (batch, *shape); `value` (*shape,), drawn by `init`. It serves as class token, learned query or
    log-variance of a task; parallel(parameter(1, width, init=normal()), chain(), axis=1) sets it before a sequence.
    ConfigError for a size below 1; ShapeError for x without a batch axis.
    """
    for size in shape:
        checks.whole("parameter shape", size)

    def begin(key: jax.Array, x_shape: Any) -> tuple[Params, State, Shape]:
        return {"value": init(checks.key("parameter key", key), shape)}, {}, shape

    def apply(params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False):
        arrays = jax.tree.leaves(x)
        if not arrays or not jnp.ndim(arrays[0]):
            raise ShapeError("parameter x", "arrays (batch, ...)", jax.tree.map(jnp.shape, x), "add a batch axis")
        trees.expect_arrays("parameter", params, {"value": shape})
        return jnp.broadcast_to(params["value"], (arrays[0].shape[0], *shape)), state

    return Layer(begin, apply)
