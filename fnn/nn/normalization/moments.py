"""What the normalizations share: statistics over axes, the way from them to y, and the layer that needs no more."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.nn.core.affine import along_last
from fnn.types import Layer, Number, Params, Shape, State

BEGIN = {"scale": jnp.ones, "bias": jnp.zeros}
AFFINE = tuple(BEGIN)  # the names of the parameters of a normalization that scales and shifts


def normalization(
    where: str,
    names: tuple[str, ...],
    own_shape: Callable[[Shape], Shape],
    function: Callable[[jax.Array, Params], jax.Array],
) -> Layer:
    """A layer y = function(x, params) without state, both of float32 at least.

    The params are the arrays of these names, each of own_shape(shape of one example), which raises where x cannot be.
    """

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        own = own_shape(shape)
        return {name: BEGIN[name](own) for name in names}, {}, shape

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        checks.floating(f"{where} x", x)
        trees.expect_arrays(where, params, dict.fromkeys(names, own_shape(x.shape[1:])))
        return function(x.astype(trees.wide(x)), params).astype(x.dtype), state

    return Layer(init, apply, where)


def moments(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The mean and the biased variance over these axes, which stay, with size 1."""
    mean = x.mean(axes, keepdims=True)
    # E[x²] - E[x]² would cancel: at mean 3000 and std 1 float32 loses the variance altogether.
    return mean, jnp.square(x - mean).mean(axes, keepdims=True)


def normalize(
    x: jax.Array, mean: Number, square: jax.Array, eps: Number, params: Params
) -> jax.Array:
    """scale (x - mean) / √(square + eps) + bias, where the params have such; they meet the last axes of x."""
    own = {name: along_last(array.astype(x.dtype), x) for name, array in params.items()}
    slope = 1 / jnp.sqrt(square + trees.knob(eps, square))
    y = (x - mean) * (slope * own["scale"] if "scale" in own else slope)
    return y + own["bias"] if "bias" in own else y


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def normalized(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: jax.Array, axes: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """scale (x - mean) / √(var + eps) + bias, mean and var, which are those over the axes.

    All have the rank of x. The derivative is written with one factor and one summand for each mean, so that its
    transpose has two sums over x: one of g and one of x g, from which all gradients follow. What JAX derives step by
    step has four, and takes twice as long on CPU.
    """
    mean, var = moments(x, axes)
    return (x - mean) * (scale * jax.lax.rsqrt(var + eps)) + bias, mean, var


@normalized.defjvp
def _(
    axes: tuple[int, ...], primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[Any, Any]:
    (x, scale, _, eps), (dx, dscale, dbias, depsilon) = primals, tangents
    y, mean, var = normalized(*primals, axes)
    slope = jax.lax.rsqrt(var + eps)
    dmean, dvar = dx.mean(axes, keepdims=True), 2 * ((x - mean) * dx).mean(axes, keepdims=True)
    dslope = -0.5 * slope**3 * (dvar + depsilon)
    factor, dfactor = scale * slope, dscale * slope + scale * dslope
    dy = factor * dx + x * dfactor + (dbias - factor * dmean - mean * dfactor)
    return (y, mean, var), (dy, dmean, dvar)
