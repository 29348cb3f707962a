"""Activations across the features: they become probabilities, or the logarithms of such."""

from collections.abc import Callable

import jax

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.plain import plain
from fnn.types import Layer, Shape
from fnn.values import maker


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
            raise ShapeError(name, "a shape (..., features)", shape, "give each example a feature axis")
        return shape

    def apply(x: jax.Array) -> jax.Array:
        checks.floating(f"{name} x", x)
        same(x.shape[1:])
        return function(x.astype(trees.wide(x))).astype(x.dtype)

    return plain(name, same, apply)
