"""Normalization of each example over its features."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ShapeError
from fnn.nn.core.decoder import per_position
from fnn.nn.normalization.moments import AFFINE, moments_by_sums, normalization, normalize
from fnn.types import Layer, Number, Params, Shape
from fnn.values import maker


@maker
def layer_norm(
    *,
    axes: int = 1,
    eps: Number = 1e-5,
    affine: bool = True,
) -> Layer:
    """Layer normalization: y = scale (x - mean) / √(var + eps) + bias over the last axes.

    x (batch, ..., features); mean and the biased var are over the features (two passes, float32 at
    least); `scale` and `bias`, initially 1 and 0, have the shape of the normalized axes
    [Ba et al. 2016, arXiv:1607.06450].

    Args:
        axes: Number of last axes to normalize over.
        eps: Number added to the variance, > 0.
        affine: Whether the layer has `scale` and `bias`.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: An example has fewer axes, or one of size 0.
        DTypeError: x or params are not of floating point.
        TreeMismatchError: The params are not those of this layer.
    """
    checks.number("layer_norm eps", eps, "(0, inf)")
    checks.flag("layer_norm affine", affine)
    count = checks.whole("layer_norm axes", axes)
    # Counted from the end: the number of axes of x does not matter.
    last_axes = tuple(range(-count, 0))

    def params_shape(shape: Shape) -> Shape:
        # `scale` and `bias` have one number for each feature.
        return _last_sizes("layer_norm", shape, count)

    def function(x: jax.Array, params: Params) -> jax.Array:
        mean, var = moments_by_sums(x, last_axes)
        return normalize(x, mean, var, eps, params)

    layer = normalization("layer_norm", AFFINE if affine else (), params_shape, function)
    # Over more axes than the last, the statistics would include later positions.
    return per_position(layer) if count == 1 else layer


@maker
def rms_norm(*, eps: Number = 1e-6, affine: bool = True) -> Layer:
    """Root mean square normalization of the last axis: y = scale x / √(mean(x²) + eps).

    x (batch, ..., features); `scale` (features,), initially 1; the mean in float32 at least
    [Zhang & Sennrich 2019, arXiv:1910.07467].

    Args:
        eps: Number added to the mean square, > 0.
        affine: Whether the layer has `scale`.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: An example has no features.
        DTypeError: x or params are not of floating point.
        TreeMismatchError: The params are not those of this layer.
    """
    checks.number("rms_norm eps", eps, "(0, inf)")
    checks.flag("rms_norm affine", affine)
    names = ("scale",) if affine else ()

    def params_shape(shape: Shape) -> Shape:
        return _last_sizes("rms_norm", shape, 1)

    def function(x: jax.Array, params: Params) -> jax.Array:
        # `moments` is not used: the mean is not subtracted.
        mean_square = jnp.square(x).mean(-1, keepdims=True)
        return normalize(x, 0, mean_square, eps, params)

    return per_position(normalization("rms_norm", names, params_shape, function))


def _last_sizes(where: str, shape: Shape, count: int) -> Shape:
    """Return the last `count` sizes of an example; ShapeError if it has fewer, or one is 0."""
    # Fewer than `count` sizes if the example has fewer axes.
    sizes = shape[-count:]
    if len(sizes) < count or 0 in sizes:
        raise ShapeError(
            where,
            f"a shape that ends in {count} axes of features",
            shape,
            "give each example a feature",
        )
    return sizes
