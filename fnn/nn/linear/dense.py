"""The fully connected layer."""

import jax

from fnn import checks
from fnn.errors import ShapeError
from fnn.nn.affine import add_bias, expect_affine, init_affine
from fnn.nn.initializers.scaled import lecun_normal
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
            raise ShapeError("dense", "a shape (..., inputs)", shape, "give each example a feature axis")
        params = init_affine("dense", key, (shape[-1], units), kernel_init or lecun_normal(), use_bias)
        return params, {}, (*shape[:-1], units)

    def apply(params: Params, state: State, x: jax.Array, *, key: jax.Array | None = None, train: bool = False):
        expect_affine("dense", params, x, (x.shape[-1], units), use_bias)
        return add_bias(x @ params["kernel"], params, use_bias), state

    return Layer(init, apply)
