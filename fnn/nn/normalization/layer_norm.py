"""Normalization of each example over its features."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ShapeError
from fnn.nn.normalization.moments import AFFINE, moments, normalization, normalize
from fnn.types import Layer, Number, Params, Shape
from fnn.values import maker


@maker
def layer_norm(*, axes: int = 1, eps: Number = 1e-5, affine: bool = True) -> Layer:
    """Normalize over the last axes, so many of them, y = scale (x - mean) / √(var + eps) + bias.

    x (batch, ..., features); mean and var, biased, are those over the features (two passes, float32 at least).
    `scale`, ones, and `bias`, zeros, have the shape of the axes normalized over; neither is there unless affine.
    ConfigError for an option out of range; ShapeError for an example that has fewer axes, or none of a feature
    [Ba et al. 2016, arXiv:1607.06450].
    """
    checks.number("layer_norm eps", eps, "(0, inf)")
    checks.flag("layer_norm affine", affine)
    count = checks.whole("layer_norm axes", axes)

    def function(x: jax.Array, params: Params) -> jax.Array:
        return normalize(x, *moments(x, tuple(range(-count, 0))), eps, params)

    return normalization(
        "layer_norm",
        AFFINE if affine else (),
        lambda shape: _last("layer_norm", shape, count),
        function,
    )


@maker
def rms_norm(*, eps: Number = 1e-6, affine: bool = True) -> Layer:
    """Divide the last axis by its root mean square, y = scale x / √(mean(x²) + eps).

    x (batch, ..., features); `scale` (features,), ones, there unless affine is off; the mean in float32 at least.
    ConfigError for an option out of range; ShapeError for an example without a feature
    [Zhang & Sennrich 2019, arXiv:1910.07467].
    """
    checks.number("rms_norm eps", eps, "(0, inf)")
    checks.flag("rms_norm affine", affine)

    def function(x: jax.Array, params: Params) -> jax.Array:
        return normalize(x, 0, jnp.square(x).mean(-1, keepdims=True), eps, params)

    return normalization(
        "rms_norm",
        ("scale",) if affine else (),
        lambda shape: _last("rms_norm", shape, 1),
        function,
    )


def _last(where: str, shape: Shape, count: int) -> Shape:
    own = shape[-count:]
    if len(own) < count or 0 in own:
        raise ShapeError(
            where,
            f"a shape that ends in {count} axes of features",
            shape,
            "give each example a feature",
        )
    return own
