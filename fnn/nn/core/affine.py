"""What the layers of the form y = W x + b share: their parameters, and the check that x fits them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.types import Initializer, Params, Shape


def along_last(array: jax.Array, x: jax.Array) -> jax.Array:
    """An array (..., channels) as (1, ..., 1, ..., channels), ready to meet the last axes of x."""
    return array.reshape((1,) * (x.ndim - array.ndim) + array.shape)


def init_affine(
    where: str, key: jax.Array, kernel_shape: Shape, kernel_init: Initializer, use_bias: bool
) -> Params:
    """A kernel from its initializer, and zeros for the bias."""
    if 0 in kernel_shape:
        raise ShapeError(
            where, "a kernel of at least one input", kernel_shape, "give each example a feature"
        )
    kernel = kernel_init(key, kernel_shape)
    return {"kernel": kernel} | ({"bias": jnp.zeros(kernel_shape[-1])} if use_bias else {})


def expect_affine(
    where: str, params: Params, x: jax.Array, kernel_shape: Shape, use_bias: bool
) -> None:
    """Raise unless the params hold just a kernel of that shape and its bias; an x of another width is x's fault."""
    checks.floating(f"{where} x", x)
    got = np.shape(params["kernel"]) if isinstance(params, Mapping) and "kernel" in params else ()
    inputs, wanted = got[-2:-1], kernel_shape[-2:-1]
    if len(got) == len(kernel_shape) and inputs != wanted:
        channels = x.shape[-1] * inputs[0] // wanted[0] if wanted[0] else inputs[0]
        advice = (
            "the last axis is the features (images are NHWC); call init again for another width"
        )
        raise ShapeError(f"{where} x", f"(..., {channels}) as in its kernel {got}", x.shape, advice)
    trees.expect_arrays(
        where, params, {"kernel": kernel_shape} | ({"bias": kernel_shape[-1:]} if use_bias else {})
    )


def add_bias(y: jax.Array, params: Params, use_bias: bool) -> jax.Array:
    """y + b, channel by channel."""
    return y + along_last(params["bias"], y) if use_bias else y
