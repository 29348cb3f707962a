"""The rectifier whose slope is learned."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.affine import along_last
from fnn.types import Layer, Number, Params, Shape, State
from fnn.values import maker


@maker
def prelu(slope: Number = 0.25) -> Layer:
    """y = x for x > 0, else a x, with a slope a for each channel that is learned.

    x (batch, ..., channels); `slope` a (channels,), in the beginning the number given. ConfigError unless that is a
    finite number; ShapeError, DTypeError or TreeMismatchError for x or params that do not fit
    [He et al. 2015, arXiv:1502.01852].
    """
    checks.number("prelu slope", slope, "(-inf, inf)")

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        if not shape or not shape[-1]:
            raise ShapeError("prelu", "a shape (..., channels)", shape, "give each example a channel axis")
        ones = jnp.ones(shape[-1])
        return {"slope": trees.knob(slope, ones) * ones}, {}, shape

    def apply(params: Params, state: State, x: jax.Array, *, key: jax.Array | None = None, train: bool = False):
        checks.floating("prelu x", x)
        trees.expect_arrays("prelu", params, {"slope": x.shape[-1:]})
        return jnp.where(x > 0, x, along_last(params["slope"].astype(x.dtype), x) * x), state

    return Layer(init, apply)
