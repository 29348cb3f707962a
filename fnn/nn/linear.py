"""Fully connected layers and bare parameters."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.core.affine import add_bias, expect_affine, init_affine
from fnn.nn.initializers.random import lecun_normal
from fnn.types import Initializer, Layer, Params, Shape, State
from fnn.values import maker


@maker
def dense(units: int, *, use_bias: bool = True, kernel_init: Initializer | None = None) -> Layer:
    """A linear map of the last axis, y = x W + b.

    x (batch, ..., inputs) -> y (batch, ..., units); `kernel` W (inputs, units), lecun_normal; `bias` b (units,), zeros.
    ConfigError unless units >= 1; ShapeError, DTypeError or TreeMismatchError for x or params that do not fit.
    """
    checks.whole("dense units", units)
    checks.flag("dense use_bias", use_bias)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("dense key", key)
        if not shape:
            raise ShapeError(
                "dense", "a shape (..., inputs)", shape, "give each example a feature axis"
            )
        params = init_affine(
            "dense", key, (shape[-1], units), kernel_init or lecun_normal(), use_bias
        )
        return params, {}, (*shape[:-1], units)

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        expect_affine("dense", params, x, (x.shape[-1], units), use_bias)
        return add_bias(x @ params["kernel"], params, use_bias), state

    return Layer(init, apply)


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

    def apply(
        params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False
    ):
        arrays = jax.tree.leaves(x)
        if not arrays or not jnp.ndim(arrays[0]):
            raise ShapeError(
                "parameter x", "arrays (batch, ...)", jax.tree.map(jnp.shape, x), "add a batch axis"
            )
        trees.expect_arrays("parameter", params, {"value": shape})
        return jnp.broadcast_to(params["value"], (arrays[0].shape[0], *shape)), state

    return Layer(begin, apply)
