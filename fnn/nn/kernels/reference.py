"""What a convolution and its two gradients are: their geometry, the shapes of their results, and XLA's own forms.

All are in one layout: x (batch, height, width, in), w (height, width, in / groups, out), y (batch, height, width, out);
a volume has its depth before the height.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

Pair = tuple[int, int]
Sizes = tuple[int, ...]  # one number an axis of the image
Pads = tuple[Pair, ...]
Shape = tuple[int, ...]


class Geometry(NamedTuple):
    """All that is static in a convolution, except the numbers of images and of channels."""

    stride: Sizes
    padding: Pads
    dilation: Sizes
    groups: int
    image: Sizes
    kernel: Sizes


Form = Callable[[Array, Array, Geometry], Array]


def output_size(geometry: Geometry) -> Sizes:
    stride, padding, dilation, _, image, kernel = geometry
    axes = zip(image, padding, dilation, kernel, stride, strict=True)
    return tuple((n + sum(pad) - d * (k - 1) - 1) // s + 1 for n, pad, d, k, s in axes)


def output_shape(x: Shape, w: Shape, geometry: Geometry) -> Shape:
    return x[0], *output_size(geometry), w[-1]


def input_shape(y: Shape, w: Shape, geometry: Geometry) -> Shape:
    return y[0], *geometry.image, w[-2] * geometry.groups


def kernel_shape(x: Shape, y: Shape, geometry: Geometry) -> Shape:
    return *geometry.kernel, x[-1] // geometry.groups, y[-1]


def nhwc(x: Array, w: Array, strides: Sizes, padding: Sequence[Pair], **options: Any) -> Array:
    """The one layout of all convolutions here: NHWC x HWIO -> NHWC, and of volumes NDHWC x DHWIO -> NDHWC."""
    places = "DHW"[-len(strides) :]
    layout = f"N{places}C", f"{places}IO", f"N{places}C"
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=layout, **options)


def xla_forward(x: Array, w: Array, geometry: Geometry) -> Array:
    stride, padding, dilation, groups, *_ = geometry
    return nhwc(x, w, stride, padding, rhs_dilation=dilation, feature_group_count=groups)


def xla_input_gradient(y: Array, w: Array, geometry: Geometry) -> Array:
    x = jax.ShapeDtypeStruct(input_shape(y.shape, w.shape, geometry), y.dtype)
    return jax.linear_transpose(lambda x: xla_forward(x, w, geometry), x)(y)[0]


def xla_kernel_gradient(x: Array, y: Array, geometry: Geometry) -> Array:
    w = jax.ShapeDtypeStruct(kernel_shape(x.shape, y.shape, geometry), y.dtype)
    return jax.linear_transpose(lambda w: xla_forward(x, w, geometry), w)(y)[0]


def beside(w: Array, results: int, stride: int) -> Array:
    """A kernel for so many neighboring results at once: itself for each, a stride further on, and zeros elsewhere.

    (height, width, in, out) -> (height, width + stride (results - 1), in, results out)
    """
    rows, columns, inputs, outputs = w.shape
    last = stride * (results - 1)
    shifted = [
        jnp.pad(w, ((0, 0), (at, last - at), (0, 0), (0, 0))) for at in range(0, last + 1, stride)
    ]
    return jnp.stack(shifted, 3).reshape(rows, columns + last, inputs, results * outputs)


def fold(a: Array, axis: int, groups: int) -> Array:
    """Merge the leading axis into another one, inside of its groups: (b, ..., g c, ...) -> (..., g b c, ...)."""
    axis %= a.ndim - 1
    size, before, after = a.shape[0], a.shape[1 : axis + 1], a.shape[axis + 2 :]
    each = a.shape[axis + 1] // groups
    a = a.reshape(size, *before, groups, each, *after)
    return jnp.moveaxis(a, 0, axis + 1).reshape(*before, groups * size * each, *after)


def unfold(a: Array, axis: int, groups: int, size: int) -> Array:
    """Undo `fold`."""
    axis %= a.ndim
    before, after = a.shape[:axis], a.shape[axis + 1 :]
    each = a.shape[axis] // (groups * size)
    a = jnp.moveaxis(a.reshape(*before, groups, size, each, *after), axis + 1, 0)
    return a.reshape(size, *before, groups * each, *after)
