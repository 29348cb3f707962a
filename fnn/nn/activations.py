"""Activation layers: elementwise functions, softmax, and activations with parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.core.affine import add_bias, expect_affine, init_affine
from fnn.nn.core.decoder import per_position
from fnn.nn.core.stateless import stateless
from fnn.nn.core.wide_sums import along_last
from fnn.nn.initializers.random import lecun_normal
from fnn.types import Initializer, Layer, Number, Params, Shape, State
from fnn.values import maker


@maker
def elementwise(function: Callable[[jax.Array], jax.Array]) -> Layer:
    """A layer without parameters from a function that keeps the shape of its argument: y = f(x).

    Args:
        function: The function f of the batch. Its `__name__` is the name of the layer.
    """
    # A functools.partial has no name.
    name = getattr(function, "__name__", "elementwise")

    def out_shape(shape: Shape) -> Shape:
        return shape

    def apply(x: jax.Array) -> jax.Array:
        checked = checks.floating(f"{name} x", x)
        return function(checked)

    return per_position(stateless(name, out_shape, apply))


@maker
def relu() -> Layer:
    """Rectified linear unit: y = max(x, 0) [Nair & Hinton 2010]."""
    # jax.nn.relu has slope 0 at 0; the gradient of jnp.maximum would be 1/2.
    return elementwise(jax.nn.relu)


@maker
def relu6() -> Layer:
    """ReLU with an upper bound: y = min(max(x, 0), 6) [Sandler et al. 2018, arXiv:1801.04381]."""

    def relu6(x: jax.Array) -> jax.Array:
        # `where` gives slope 0 at both kinks, as jax.nn.relu does at 0; jnp.minimum would give 1/2.
        return jnp.where(x >= 6, 6, jax.nn.relu(x))

    return elementwise(relu6)


@maker
def leaky_relu(slope: Number = 0.01) -> Layer:
    """Leaky ReLU: y = x for x > 0, else slope x [Maas et al. 2013].

    Args:
        slope: Slope for x <= 0, any finite number.

    Raises:
        ConfigError: `slope` is not a finite number.
    """
    checks.number("leaky_relu slope", slope, "(-inf, inf)")

    def leaky_relu(x: jax.Array) -> jax.Array:
        # `knob` takes the dtype of x, so that a traced slope does not promote bfloat16.
        return jnp.where(x > 0, x, trees.knob(slope, x) * x)

    return elementwise(leaky_relu)


@maker
def elu(alpha: Number = 1.0) -> Layer:
    """ELU: y = x for x > 0, else alpha (exp(x) - 1) [Clevert et al. 2016, arXiv:1511.07289].

    Args:
        alpha: Negative of the limit of y for x -> -∞, any finite number.

    Raises:
        ConfigError: `alpha` is not a finite number.
    """
    checks.number("elu alpha", alpha, "(-inf, inf)")

    def elu(x: jax.Array) -> jax.Array:
        # Without it expm1 overflows for large x, and the unused branch makes the gradient NaN.
        negative = jnp.where(x > 0, 0, x)
        return jnp.where(x > 0, x, trees.knob(alpha, x) * jnp.expm1(negative))

    return elementwise(elu)


@maker
def selu() -> Layer:
    """Scaled ELU: y = 1.0507 x for x > 0, else 1.7581 (exp(x) - 1).

    It keeps mean 0 and variance 1 from layer to layer [Klambauer et al. 2017, arXiv:1706.02515].
    """
    return elementwise(jax.nn.selu)


@maker
def gelu(*, approximate: bool = False) -> Layer:
    """GELU: y = x Φ(x) [Hendrycks & Gimpel 2016, arXiv:1606.08415].

    Φ is the distribution function of N(0, 1). The approximation of GPT-2 is
    Φ(x) ≈ (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2; its y differs by at most 5e-4.

    Args:
        approximate: Use the approximation by tanh instead of the exact Φ.

    Raises:
        ConfigError: `approximate` is not a bool.
    """
    checks.flag("gelu approximate", approximate)

    def gelu(x: jax.Array) -> jax.Array:
        if not approximate:
            return jax.nn.gelu(x, approximate=False)
        # Beyond ±30 tanh is ±1 in every dtype, and the cube would overflow in the gradient.
        bounded = jnp.clip(x, -30, 30)
        half = x * 0.5
        return half * (1 + jnp.tanh((2 / jnp.pi) ** 0.5 * (bounded + 0.044715 * bounded**3)))

    return elementwise(gelu)


@maker
def silu() -> Layer:
    """SiLU, also called swish: y = x σ(x) [Elfwing et al. 2018, arXiv:1702.03118]."""
    return elementwise(jax.nn.silu)


@maker
def hard_swish() -> Layer:
    """Piecewise form of SiLU: y = x min(max(x + 3, 0), 6) / 6.

    [Howard et al. 2019, arXiv:1905.02244]
    """

    def hard_swish(x: jax.Array) -> jax.Array:
        # `where` takes the outer pieces at the kinks: the slope is 0 at -3 and 1 at 3.
        is_low = x <= -3
        gate = jnp.where(x >= 3, 1, (x + 3) / 6)
        gate = jnp.where(is_low, 0, gate)
        return x * gate

    return elementwise(hard_swish)


@maker
def mish() -> Layer:
    """Mish: y = x tanh(log(1 + exp(x))) [Misra 2020, arXiv:1908.08681]."""
    return elementwise(jax.nn.mish)


@maker
def sigmoid() -> Layer:
    """Logistic function: y = 1 / (1 + exp(-x))."""
    return elementwise(jax.nn.sigmoid)


@maker
def tanh() -> Layer:
    """Hyperbolic tangent: y = (exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    # jnp.tanh does not overflow, unlike the formula.
    return elementwise(jnp.tanh)


@maker
def softplus() -> Layer:
    """Smooth ReLU: y = log(1 + exp(x)) [Dugas et al. 2001]."""
    return elementwise(jax.nn.softplus)


@maker
def softmax() -> Layer:
    """Softmax over the last axis: y_i = exp(x_i) / Σ_j exp(x_j), in float32 at least.

    A classifier trained with objective.cross_entropy ends without it: the loss takes logits.

    Raises:
        ShapeError: An example has no features.
    """
    return _over_features("softmax", jax.nn.softmax)


@maker
def log_softmax() -> Layer:
    """Logarithm of softmax over the last axis: y_i = x_i - log Σ_j exp(x_j), in float32 at least.

    Raises:
        ShapeError: An example has no features.
    """
    return _over_features("log_softmax", jax.nn.log_softmax)


@maker
def prelu(slope: Number = 0.25) -> Layer:
    """Parametric ReLU: y = x for x > 0, else a x, with a learned slope a for each channel.

    x (batch, ..., channels) -> y of the same shape; `slope` a (channels,)
    [He et al. 2015, arXiv:1502.01852].

    Args:
        slope: Initial slope of all channels, any finite number; 0.25 as in the paper.

    Raises:
        ConfigError: `slope` is not a finite number.
        ShapeError: An example has no channels.
        DTypeError: x or params are not of floating point.
        TreeMismatchError: The params do not fit x.
    """
    checks.number("prelu slope", slope, "(-inf, inf)")

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        if not checks.one_shape("prelu", shape) or not shape[-1]:
            raise ShapeError(
                "prelu",
                "a shape (..., channels)",
                shape,
                "give each example a channel axis",
            )
        # A product instead of jnp.full keeps the default dtype for a traced slope.
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
        # The gradient of the slopes sums over all positions with x <= 0.
        is_positive = x > 0
        # (channels,) -> (1, ..., 1, channels)
        slopes = along_last(params["slope"].astype(x.dtype), x)
        return jnp.where(is_positive, x, slopes * x), state

    return per_position(Layer(init, apply))


@maker
def maxout(
    units: int,
    *,
    pieces: int = 2,
    use_bias: bool = True,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Maximum of several linear maps of the last axis: y_u = max_p (x W + b)_(u, p).

    x (batch, ..., inputs) -> y (batch, ..., units); `kernel` W (inputs, units * pieces), in which
    the pieces of a unit are neighbors; `bias` b (units * pieces,), initially zeros
    [Goodfellow et al. 2013, arXiv:1302.4389].

    Args:
        units: Number of outputs.
        pieces: Number of linear maps of each output; 2 can already form |x|.
        use_bias: Whether to add the bias b.
        kernel_init: Initializer of the kernel; lecun_normal if None.

    Raises:
        ConfigError: `units` or `pieces` is not a whole number >= 1.
        ShapeError: An example has no features, or x has another number of features than the kernel.
        DTypeError: x or params are not of floating point.
        TreeMismatchError: The params are not those of this layer.
    """
    checks.flag("maxout use_bias", use_bias)
    width = checks.whole("maxout units", units) * checks.whole("maxout pieces", pieces)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("maxout key", key)
        checks.one_shape("maxout", shape)
        if not shape:
            raise ShapeError(
                "maxout",
                "a shape (..., inputs)",
                shape,
                "give each example a feature axis",
            )
        initializer = kernel_init or lecun_normal()
        # One matrix product for all pieces is faster than one for each.
        params = init_affine("maxout", key, (shape[-1], width), initializer, use_bias)
        return params, {}, (*shape[:-1], units)

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        checks.one_array("maxout x", x)
        expect_affine("maxout", params, x, (x.shape[-1], width), use_bias)
        y = add_bias(x @ params["kernel"], params, use_bias)
        # (batch, ..., units * pieces) -> (batch, ..., units, pieces) -> (batch, ..., units)
        grouped = y.reshape(*y.shape[:-1], units, pieces)
        return grouped.max(-1), state

    return per_position(Layer(init, apply))


def _over_features(name: str, function: Callable[[jax.Array], jax.Array]) -> Layer:
    """Make a layer of a function over the last axis, computed in float32 at least."""

    def expect_features(shape: Shape) -> Shape:
        if not shape or not shape[-1]:
            raise ShapeError(
                name,
                "a shape (..., features)",
                shape,
                "give each example a feature axis",
            )
        return shape

    def apply(x: jax.Array) -> jax.Array:
        checks.floating(f"{name} x", x)
        expect_features(x.shape[1:])
        # bfloat16 has 8 bits of precision: a sum of exponentials would lose its small terms.
        wide = x.astype(trees.wide(x))
        return function(wide).astype(x.dtype)

    return per_position(stateless(name, expect_features, apply))
