"""What a convolution and its two gradients are: their geometry, the shapes of their results, and XLA's own forms.

All are in one layout: x (batch, height, width, in), w (height, width, in / groups, out), y (batch, height, width, out).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax import Array, lax

Pair = tuple[int, int]
Shape = tuple[int, ...]


class Geometry(NamedTuple):
    """All that is static in a convolution, except the numbers of images and of channels."""

    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair
    groups: int
    image: Pair
    kernel: Pair


Form = Callable[[Array, Array, Geometry], Array]


def output_shape(x: Shape, w: Shape, geometry: Geometry) -> Shape:
    stride, padding, dilation, _, image, kernel = geometry
    axes = zip(image, padding, dilation, kernel, stride, strict=True)
    return x[0], *((n + sum(pad) - d * (k - 1) - 1) // s + 1 for n, pad, d, k, s in axes), w[-1]


def input_shape(y: Shape, w: Shape, geometry: Geometry) -> Shape:
    return y[0], *geometry.image, w[2] * geometry.groups


def kernel_shape(x: Shape, y: Shape, geometry: Geometry) -> Shape:
    return *geometry.kernel, x[-1] // geometry.groups, y[-1]


def nhwc(x: Array, w: Array, strides: Pair, padding: Sequence[Pair], **options: Any) -> Array:
    """The one layout of all convolutions in this file: NHWC x HWIO -> NHWC."""
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


def xla_forward(x: Array, w: Array, geometry: Geometry) -> Array:
    stride, padding, dilation, groups, *_ = geometry
    return nhwc(x, w, stride, padding, rhs_dilation=dilation, feature_group_count=groups)


def xla_input_gradient(y: Array, w: Array, geometry: Geometry) -> Array:
    x = jax.ShapeDtypeStruct(input_shape(y.shape, w.shape, geometry), y.dtype)
    return jax.linear_transpose(lambda x: xla_forward(x, w, geometry), x)(y)[0]


def xla_kernel_gradient(x: Array, y: Array, geometry: Geometry) -> Array:
    w = jax.ShapeDtypeStruct(kernel_shape(x.shape, y.shape, geometry), y.dtype)
    return jax.linear_transpose(lambda w: xla_forward(x, w, geometry), w)(y)[0]
