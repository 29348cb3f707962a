"""Normalization of each example's channels, in groups or alone, over its places."""

import jax

from fnn import checks
from fnn.errors import ShapeError
from fnn.nn.normalization.moments import AFFINE, moments, normalization, normalize
from fnn.types import Layer, Number, Params, Shape
from fnn.values import maker


@maker
def group_norm(groups: int, *, eps: Number = 1e-5, affine: bool = True) -> Layer:
    """Normalize each example over its places and a group of channels, y = scale (x - mean) / √(var + eps) + bias.

    x (batch, ..., channels), neighboring channels being a group; mean and var, biased, are those of an example's group
    (two passes, float32 at least); `scale`, ones, and `bias`, zeros, (channels,), neither there unless affine.
    ConfigError for an option out of range; ShapeError for channels that the groups do not divide, or a group of a
    single value, which would be 0 whatever x is [Wu & He 2018, arXiv:1803.08494].
    """
    checks.whole("group_norm groups", groups)
    checks.number("group_norm eps", eps, "(0, inf)")
    checks.flag("group_norm affine", affine)

    def own_shape(shape: Shape) -> Shape:
        channels = shape[-1] if shape else 0
        if not channels or channels % groups:
            raise ShapeError(
                "group_norm",
                f"channels in {groups} groups",
                shape,
                "choose groups that divide them",
            )
        return _several("group_norm", shape, channels // groups)

    def function(x: jax.Array, params: Params) -> jax.Array:
        grouped = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
        places = (*range(1, x.ndim - 1), x.ndim)
        own = {name: array.reshape(groups, -1) for name, array in params.items()}
        return normalize(grouped, *moments(grouped, places), eps, own).reshape(x.shape)

    return normalization("group_norm", AFFINE if affine else (), own_shape, function)


@maker
def instance_norm(*, eps: Number = 1e-5, affine: bool = False) -> Layer:
    """Normalize each channel of each example over its places, y = (x - mean) / √(var + eps).

    x (batch, ..., channels) with at least one axis of places; mean and var, biased, are those of an example's channel
    (two passes, float32 at least), in training and out of it. With affine y is scaled by `scale`, ones, and shifted by
    `bias`, zeros, (channels,). ConfigError for an option out of range; ShapeError for an example of a single place,
    which would be 0 whatever x is [Ulyanov et al. 2016, arXiv:1607.08022].
    """
    checks.number("instance_norm eps", eps, "(0, inf)")
    checks.flag("instance_norm affine", affine)

    def own_shape(shape: Shape) -> Shape:
        if not shape or not shape[-1]:
            raise ShapeError(
                "instance_norm",
                "a shape (..., channels)",
                shape,
                "give each example a channel axis",
            )
        return _several("instance_norm", shape, 1)

    def function(x: jax.Array, params: Params) -> jax.Array:
        return normalize(x, *moments(x, tuple(range(1, x.ndim - 1))), eps, params)

    return normalization("instance_norm", AFFINE if affine else (), own_shape, function)


def _several(where: str, shape: Shape, channels: int) -> Shape:
    """The shape of the params, if each mean is one of several values."""
    values = channels
    for size in shape[:-1]:
        values *= size
    if values < 2:
        advice = "normalize before the places are pooled, or use nn.layer_norm()"
        raise ShapeError(where, "more than 1 value to each mean", shape, advice)
    return shape[-1:]
