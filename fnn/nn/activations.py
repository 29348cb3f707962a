"""Activations: elementwise functions, softmax, and those with parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.core.affine import add_bias, along_last, expect_affine, init_affine
from fnn.nn.core.stateless import plain
from fnn.nn.initializers.random import lecun_normal
from fnn.types import Initializer, Layer, Number, Params, Shape, State
from fnn.values import maker


@maker
def elementwise(function: Callable[[jax.Array], jax.Array]) -> Layer:
    """Any function that keeps its argument's shape, as a layer without parameters: y = f(x)."""

    name = getattr(function, "__name__", "elementwise")
    return plain(name, lambda shape: shape, lambda x: function(checks.floating(f"{name} x", x)))


@maker
def relu() -> Layer:
    """y = max(x, 0) [Nair & Hinton 2010]."""
    return elementwise(jax.nn.relu)


@maker
def relu6() -> Layer:
    """y = min(max(x, 0), 6) [Sandler et al. 2018, arXiv:1801.04381]."""

    def relu6(x: jax.Array) -> jax.Array:
        return jnp.where(x >= 6, 6, jax.nn.relu(x))  # of slope 0 at both kinks, as relu at its own

    return elementwise(relu6)


@maker
def leaky_relu(slope: Number = 0.01) -> Layer:
    """y = x for x > 0, else slope x [Maas et al. 2013]."""
    checks.number("leaky_relu slope", slope, "(-inf, inf)")

    def leaky_relu(x: jax.Array) -> jax.Array:
        return jnp.where(x > 0, x, trees.knob(slope, x) * x)

    return elementwise(leaky_relu)


@maker
def elu(alpha: Number = 1.0) -> Layer:
    """y = x for x > 0, else alpha (exp(x) - 1) [Clevert et al. 2016, arXiv:1511.07289]."""
    checks.number("elu alpha", alpha, "(-inf, inf)")

    def elu(x: jax.Array) -> jax.Array:
        negative = jnp.where(
            x > 0, 0, x
        )  # so that the branch not taken cannot overflow, nor its gradient
        return jnp.where(x > 0, x, trees.knob(alpha, x) * jnp.expm1(negative))

    return elementwise(elu)


@maker
def selu() -> Layer:
    """y = 1.0507 x for x > 0, else 1.7581 (exp(x) - 1), which keeps mean 0 and variance 1 from layer to layer.

    [Klambauer et al. 2017, arXiv:1706.02515].
    """
    return elementwise(jax.nn.selu)


@maker
def gelu(*, approximate: bool = False) -> Layer:
    """y = x Φ(x), with Φ the normal distribution function, exact [Hendrycks & Gimpel 2016, arXiv:1606.08415].

    If approximate, Φ(x) ≈ (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, as GPT-2 has it, 5e-4 off at most.
    """

    checks.flag("gelu approximate", approximate)

    def gelu(x: jax.Array) -> jax.Array:
        if not approximate:
            return jax.nn.gelu(x, approximate=False)
        near = jnp.clip(
            x, -30, 30
        )  # beyond, tanh is 1 in every dtype, and the cube would overflow in the gradient
        return x * 0.5 * (1 + jnp.tanh((2 / jnp.pi) ** 0.5 * (near + 0.044715 * near**3)))

    return elementwise(gelu)


@maker
def silu() -> Layer:
    """y = x σ(x), also called swish [Elfwing et al. 2018, arXiv:1702.03118]."""
    return elementwise(jax.nn.silu)


@maker
def hard_swish() -> Layer:
    """y = x min(max(x + 3, 0), 6) / 6, a silu of straight pieces [Howard et al. 2019, arXiv:1905.02244]."""

    def hard_swish(x: jax.Array) -> jax.Array:
        return x * jnp.where(x <= -3, 0, jnp.where(x >= 3, 1, (x + 3) / 6))

    return elementwise(hard_swish)


@maker
def mish() -> Layer:
    """y = x tanh(log(1 + exp(x))) [Misra 2020, arXiv:1908.08681]."""
    return elementwise(jax.nn.mish)


@maker
def sigmoid() -> Layer:
    """y = 1 / (1 + exp(-x))."""
    return elementwise(jax.nn.sigmoid)


@maker
def tanh() -> Layer:
    """y = (exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return elementwise(jnp.tanh)


@maker
def softplus() -> Layer:
    """y = log(1 + exp(x)), a smooth relu [Dugas et al. 2001]."""
    return elementwise(jax.nn.softplus)


@maker
def softmax() -> Layer:
    """y_i = exp(x_i) / Σ_j exp(x_j) over the last axis, in float32 at least.

    ShapeError for an example without a feature. A classifier trained by objective.cross_entropy ends without it, for
    the loss takes logits.
    """
    return _over_features("softmax", jax.nn.softmax)


@maker
def log_softmax() -> Layer:
    """y_i = x_i - log Σ_j exp(x_j) over the last axis, in float32 at least.

    ShapeError for an example without a feature.
    """
    return _over_features("log_softmax", jax.nn.log_softmax)


def _over_features(name: str, function: Callable[[jax.Array], jax.Array]) -> Layer:
    def same(shape: Shape) -> Shape:
        if not shape or not shape[-1]:
            raise ShapeError(
                name, "a shape (..., features)", shape, "give each example a feature axis"
            )
        return shape

    def apply(x: jax.Array) -> jax.Array:
        checks.floating(f"{name} x", x)
        same(x.shape[1:])
        return function(x.astype(trees.wide(x))).astype(x.dtype)

    return plain(name, same, apply)


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
            raise ShapeError(
                "prelu", "a shape (..., channels)", shape, "give each example a channel axis"
            )
        ones = jnp.ones(shape[-1])
        return {"slope": trees.knob(slope, ones) * ones}, {}, shape

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        checks.floating("prelu x", x)
        trees.expect_arrays("prelu", params, {"slope": x.shape[-1:]})
        return jnp.where(x > 0, x, along_last(params["slope"].astype(x.dtype), x) * x), state

    return Layer(init, apply)


@maker
def maxout(
    units: int, *, pieces: int = 2, use_bias: bool = True, kernel_init: Initializer | None = None
) -> Layer:
    """The largest of several linear maps of the last axis, y_u = max_p (x W + b)_(u, p).

    x (batch, ..., inputs) -> y (batch, ..., units); `kernel` W (inputs, units * pieces), lecun_normal, where the pieces
    of a unit are neighbors; `bias` b (units * pieces,), zeros. ConfigError unless units and pieces >= 1; ShapeError,
    DTypeError or TreeMismatchError for x or params that do not fit [Goodfellow et al. 2013, arXiv:1302.4389].
    """
    checks.flag("maxout use_bias", use_bias)
    width = checks.whole("maxout units", units) * checks.whole("maxout pieces", pieces)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("maxout key", key)
        if not shape:
            raise ShapeError(
                "maxout", "a shape (..., inputs)", shape, "give each example a feature axis"
            )
        params = init_affine(
            "maxout", key, (shape[-1], width), kernel_init or lecun_normal(), use_bias
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
        expect_affine("maxout", params, x, (x.shape[-1], width), use_bias)
        y = add_bias(x @ params["kernel"], params, use_bias)
        return y.reshape(*y.shape[:-1], units, pieces).max(
            -1
        ), state  # (..., units * pieces) -> (..., units)

    return Layer(init, apply)
