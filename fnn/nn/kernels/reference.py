"""Convolution and its two gradients: geometry, shapes of results, and the forms of XLA.

All have one layout: x (batch, height, width, in), w (height, width, in / groups, out) and
y (batch, height, width, out). A volume has its depth before the height.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

Pair = tuple[int, int]
Sizes = tuple[int, ...]  # one number for each spatial axis
Pads = tuple[Pair, ...]
Shape = tuple[int, ...]


class Geometry(NamedTuple):
    """The static description of a convolution, except for the numbers of images and channels.

    Attributes:
        stride: Pixels from one window to the next.
        padding: A (low, high) pair per axis.
        dilation: Pixels from one tap to the next.
        groups: Number of groups of channels.
        image: Spatial size of x.
        kernel: Spatial size of w.
    """

    stride: Sizes
    padding: Pads
    dilation: Sizes
    groups: int
    image: Sizes
    kernel: Sizes


Form = Callable[[Array, Array, Geometry], Array]


def image_geometry(volume: Geometry) -> Geometry:
    """Return the geometry of a volume along the height and the width."""
    return Geometry(
        stride=volume.stride[1:],
        padding=volume.padding[1:],
        dilation=volume.dilation[1:],
        groups=volume.groups,
        image=volume.image[1:],
        kernel=volume.kernel[1:],
    )


def output_size(geometry: Geometry) -> Sizes:
    """Return the spatial size of y."""
    stride, padding, dilation, _, image, kernel = geometry
    size = []
    # n pixels, k taps at distance d, windows at distance s.
    for n, pad, d, k, s in zip(image, padding, dilation, kernel, stride, strict=True):
        reach = d * (k - 1) + 1
        size.append((n + sum(pad) - reach) // s + 1)
    return tuple(size)


def output_shape(
    x: Shape,
    w: Shape,
    geometry: Geometry,
) -> Shape:
    """Return the shape of y."""
    batch = x[0]
    outputs = w[-1]
    return batch, *output_size(geometry), outputs


def input_shape(
    y: Shape,
    w: Shape,
    geometry: Geometry,
) -> Shape:
    """Return the shape of x."""
    batch = y[0]
    group_inputs = w[-2]
    return batch, *geometry.image, group_inputs * geometry.groups


def kernel_shape(
    x: Shape,
    y: Shape,
    geometry: Geometry,
) -> Shape:
    """Return the shape of w."""
    inputs = x[-1]
    outputs = y[-1]
    return *geometry.kernel, inputs // geometry.groups, outputs


def convolve_nhwc(
    x: Array,
    w: Array,
    strides: Sizes,
    padding: Sequence[Pair],
    **options: Any,
) -> Array:
    """Apply XLA's convolution in the layout NHWC x HWIO -> NHWC, or NDHWC x DHWIO -> NDHWC.

    Args:
        x: Images, signals or volumes.
        w: The kernel.
        strides: One number an axis.
        padding: A (low, high) pair per axis.
        options: Further arguments of `lax.conv_general_dilated`.
    """
    # The last one to three of depth, height and width.
    axes = "DHW"[-len(strides) :]
    images = f"N{axes}C"
    layout = (images, f"{axes}IO", images)
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=layout, **options)


def xla_forward(
    x: Array,
    w: Array,
    geometry: Geometry,
) -> Array:
    return convolve_nhwc(
        x,
        w,
        geometry.stride,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
    )


def xla_input_gradient(
    y: Array,
    w: Array,
    geometry: Geometry,
) -> Array:
    def forward(x: Array) -> Array:
        return xla_forward(x, w, geometry)

    return transpose(forward, input_shape(y.shape, w.shape, geometry), y)


def dilated_input_gradient(
    y: Array,
    w: Array,
    geometry: Geometry,
) -> Array:
    """Return the gradient by the image as a convolution of the dilated y with the flipped kernel.

    It is the same as `xla_input_gradient`, in the layout that other programs know.
    """
    *window, inputs, outputs = w.shape
    groups = geometry.groups
    # Channels of each group are exchanged, (..., in / groups, out) -> (..., out / groups, in)
    w = w.reshape(*window, inputs, groups, outputs // groups)
    w = w.swapaxes(-1, -3)
    w = w.reshape(*window, outputs // groups, groups * inputs)
    flipped = jnp.flip(w, range(len(window)))
    padding = []
    for axis, (low, _) in enumerate(geometry.padding):
        reach = geometry.dilation[axis] * (window[axis] - 1)
        spread = (y.shape[1 + axis] - 1) * geometry.stride[axis] + 1
        first = reach - low
        padding.append((first, geometry.image[axis] + reach - first - spread))
    return convolve_nhwc(
        y,
        flipped,
        (1,) * len(window),
        padding,
        lhs_dilation=geometry.stride,
        rhs_dilation=geometry.dilation,
        feature_group_count=groups,
    )


def xla_kernel_gradient(
    x: Array,
    y: Array,
    geometry: Geometry,
) -> Array:
    def forward(w: Array) -> Array:
        return xla_forward(x, w, geometry)

    return transpose(forward, kernel_shape(x.shape, y.shape, geometry), y)


def transpose(
    function: Callable[[Array], Array],
    shape: Shape,
    y: Array,
) -> Array:
    """Apply the transpose of a linear function, which is its gradient at any argument.

    Args:
        function: A linear function.
        shape: Shape of its argument, which has the dtype of y.
        y: The cotangent of its result.
    """
    # Convolution is linear in x and in w, so that no value of them is needed.
    argument = jax.ShapeDtypeStruct(shape, y.dtype)
    (gradient,) = jax.linear_transpose(function, argument)(y)
    return gradient


def pad_or_crop(x: Array, rows: Pair, columns: Pair) -> Array:
    """Pad images (batch, height, width, channels) with zeros; negative numbers crop.

    Args:
        x: The images.
        rows: Lines to add at the top and at the bottom.
        columns: Pixels to add at the left and at the right.
    """
    zero = jnp.zeros((), x.dtype)
    unchanged = (0, 0, 0)
    return lax.pad(x, zero, [unchanged, (*rows, 0), (*columns, 0), unchanged])


def shifted_kernels(
    w: Array,
    results: int,
    stride: int,
) -> Array:
    """Make one kernel that computes several neighboring results, as further output channels.

    It holds w once for each result, a stride further to the right each time, with zeros elsewhere:
    (height, width, in, out) -> (height, width + stride (results - 1), in, results out).
    """
    rows, columns, inputs, outputs = w.shape
    last = stride * (results - 1)
    shifted = []
    for left in range(0, last + 1, stride):
        pads = ((0, 0), (left, last - left), (0, 0), (0, 0))
        shifted.append(jnp.pad(w, pads))
    # (rows, columns + last, in, results, out), of which the last two axes become one
    stacked = jnp.stack(shifted, 3)
    width = columns + last
    return stacked.reshape(rows, width, inputs, results * outputs)


def fold(
    a: Array,
    axis: int,
    groups: int,
) -> Array:
    """Merge the leading axis into another one, inside of its groups.

    (b, ..., groups c, ...) -> (..., groups b c, ...), where `axis` counts without the leading one.
    """
    axis %= a.ndim - 1  # negative axes count from the end
    size = a.shape[0]
    before = a.shape[1 : axis + 1]
    after = a.shape[axis + 2 :]
    width = a.shape[axis + 1] // groups
    a = a.reshape(size, *before, groups, width, *after)
    a = jnp.moveaxis(a, 0, axis + 1)  # (..., groups, b, c, ...)
    return a.reshape(*before, groups * size * width, *after)


def unfold(
    a: Array,
    axis: int,
    groups: int,
    size: int,
) -> Array:
    """Invert `fold`: (..., groups b c, ...) -> (b, ..., groups c, ...), where b is `size`."""
    axis %= a.ndim
    before = a.shape[:axis]
    after = a.shape[axis + 1 :]
    width = a.shape[axis] // (groups * size)
    a = a.reshape(*before, groups, size, width, *after)
    a = jnp.moveaxis(a, axis + 1, 0)  # (b, ..., groups, c, ...)
    return a.reshape(size, *before, groups * width, *after)
