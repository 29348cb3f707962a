"""Normalization of each example over its pixels and groups of its channels."""

from math import prod

import jax

from fnn import checks
from fnn.errors import ShapeError
from fnn.nn.normalization.moments import (
    AFFINE,
    moments_by_sums,
    moments_of_places,
    normalization,
    normalize,
)
from fnn.types import Layer, Number, Params, Shape
from fnn.values import maker

# With fewer places, sums over places first do not save time.
MANY_PLACES = 64


@maker
def group_norm(
    groups: int,
    *,
    eps: Number = 1e-5,
    affine: bool = True,
) -> Layer:
    """Group normalization: y = scale (x - mean) / √(var + eps) + bias.

    x (batch, ..., channels); mean and the biased var are those of each example over all positions
    and a group of neighboring channels (two passes, float32 at least), in training and evaluation;
    `scale` and `bias` (channels,), initially 1 and 0 [Wu & He 2018, arXiv:1803.08494].

    Args:
        groups: Number of groups, which divides the channels. 1 normalizes over all channels.
        eps: Number added to the variance, > 0.
        affine: Whether the layer has `scale` and `bias`.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: The groups do not divide the channels, or a group of an example has a single
            value, whose y would always be 0.
        DTypeError: x or params are not of floating point.
        TreeMismatchError: The params are not those of this layer.
    """
    checks.whole("group_norm groups", groups)
    checks.number("group_norm eps", eps, "(0, inf)")
    checks.flag("group_norm affine", affine)

    def params_shape(shape: Shape) -> Shape:
        # A multiple of the groups, each with channels / groups neighboring channels.
        channels = shape[-1] if shape else 0
        if not channels or channels % groups:
            raise ShapeError(
                "group_norm",
                f"channels in {groups} groups",
                shape,
                "choose groups that divide them",
            )
        _expect_several_values("group_norm", shape, channels // groups)
        return shape[-1:]

    def function(x: jax.Array, params: Params) -> jax.Array:
        if prod(x.shape[1:-1]) >= MANY_PLACES:
            mean, var = moments_of_places(x, groups)
            return normalize(x, mean, var, eps, params)
        # (batch, ..., channels) -> (batch, ..., groups, channels / groups)
        grouped = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
        axes = (*range(1, x.ndim - 1), x.ndim)  # all but the batch and the groups
        # (channels,) -> (groups, channels / groups)
        grouped_params = {name: array.reshape(groups, -1) for name, array in params.items()}
        mean, var = moments_by_sums(grouped, axes)
        return normalize(grouped, mean, var, eps, grouped_params).reshape(x.shape)

    return normalization("group_norm", AFFINE if affine else (), params_shape, function)


@maker
def instance_norm(*, eps: Number = 1e-5, affine: bool = False) -> Layer:
    """Instance normalization: y = (x - mean) / √(var + eps) for each channel of each example.

    x (batch, ..., channels) with at least one axis between; mean and the biased var are over all
    positions (two passes, float32 at least), in training and evaluation
    [Ulyanov et al. 2016, arXiv:1607.08022].

    Args:
        eps: Number added to the variance, > 0.
        affine: Whether y is scaled by `scale`, initially 1, and shifted by `bias`, initially 0,
            both (channels,).

    Raises:
        ConfigError: An option is out of range.
        ShapeError: An example has no channels, or a single position, whose y would always be 0.
        DTypeError: x or params are not of floating point.
        TreeMismatchError: The params are not those of this layer.
    """
    checks.number("instance_norm eps", eps, "(0, inf)")
    checks.flag("instance_norm affine", affine)

    def params_shape(shape: Shape) -> Shape:
        if not shape or not shape[-1]:
            raise ShapeError(
                "instance_norm",
                "a shape (..., channels)",
                shape,
                "give each example a channel axis",
            )
        _expect_several_values("instance_norm", shape, 1)
        return shape[-1:]

    def function(x: jax.Array, params: Params) -> jax.Array:
        # Each channel is a group.
        mean, var = moments_of_places(x, x.shape[-1])
        return normalize(x, mean, var, eps, params)

    return normalization("instance_norm", AFFINE if affine else (), params_shape, function)


def _expect_several_values(where: str, shape: Shape, channels: int) -> None:
    """Raise ShapeError unless each mean is over several values: positions times `channels`."""
    # The variance of one value is 0, and x - mean as well.
    if channels * prod(shape[:-1]) < 2:
        raise ShapeError(
            where,
            "more than 1 value to each mean",
            shape,
            "normalize before global pooling, or use nn.layer_norm()",
        )
