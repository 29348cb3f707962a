"""The same layer many times over, compiled once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks
from fnn.errors import ShapeError
from fnn.nn.combinators.stacked import BODY, apply_one, init_stacked, stacks
from fnn.nn.composite import as_shape, expect_layer, filled
from fnn.types import Layer, Params, Shape, State
from fnn.values import maker


@maker
def repeat(layer: Layer | Callable[[Array], Layer], n: int) -> Layer:
    """A layer n times over, each with its own arrays, y = f_n(... f_1(x)), at the compile time of one.

    `layer` is a Layer, or a function of depth = (i + 1) / n, traced, that makes copy i, as in
    repeat(lambda depth: residual(chain(dense(4), drop_path(0.2 * depth))), 12). The params and the state are
    {"body": its own, stacked along a leading axis (n, ...)}, and `lax.scan` goes through them. Copy i gets
    fold_in(key, i), so it is the chain of n layers to the last key. ConfigError unless n >= 1; ShapeError where the
    body does not end as it begins, in shape and dtype.
    """
    checks.whole("repeat n", n)
    body = (lambda depth: layer) if isinstance(layer, Layer) or not callable(layer) else layer
    last: Any = np.float32(1)  # of NumPy, since making a network is no work for a device
    expect_layer("repeat body", body(last))

    def build(place: Array) -> Layer:
        return body((place + 1).astype(jnp.result_type(float)) / n)

    def init(key: Array, shape: Shape) -> tuple[Params, State, Shape]:
        params, state, out_shape = init_stacked(build, n, key, shape)
        _expect_same(as_shape(shape), out_shape)
        return params, state, out_shape

    def apply(params: Params, state: State, x: Any, *, key: Array | None = None, train: bool = False):
        def one(x: Any, own: tuple[Array, Params, State]) -> tuple[Any, State]:
            y, new_state = apply_one(build, *own, x, key, train)
            _expect_same(*(jax.tree.map(checks.describe, end) for end in (x, y)))
            return y, new_state

        y, new_state = jax.lax.scan(one, x, (jnp.arange(n), *stacks("repeat", n, params, state)))
        return y, filled({BODY: new_state})

    return Layer(init, apply, "repeat", {BODY: layer}, lambda parts: repeat(parts[BODY], n))


def _expect_same(begin: Any, end: Any) -> None:
    if begin != end:
        raise ShapeError("repeat body", f"to end as it begins, in {begin}", end, "let its last layer give that width")
