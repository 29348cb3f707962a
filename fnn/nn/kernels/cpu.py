"""The forms of a convolution that are fast on XLA:CPU, inside loops as well as outside.

XLA:CPU has one fast convolution, of NHWC images with HWIO kernels, without groups and without
dilation of the image. Everything here is reduced to it. The end of the file selects a form.
"""

from functools import partial
from itertools import product
from math import prod
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from fnn import trees
from fnn.nn.kernels import eigen, im2col, winograd
from fnn.nn.kernels.batch_tiles import sum_tiles
from fnn.nn.kernels.reference import (
    Form,
    Geometry,
    Pair,
    convolve_nhwc,
    fold,
    image_geometry,
    input_shape,
    output_shape,
    output_size,
    pad_or_crop,
    transpose,
    unfold,
)
from fnn.xla import is_whole

# One group.


def dense_forward(x: Array, w: Array, geometry: Geometry) -> Array:
    return eigen.convolve(x, w, geometry.stride, geometry.padding, geometry.dilation)


def dense_input_gradient(y: Array, w: Array, geometry: Geometry) -> Array:
    """Convolve y with the flipped kernel, for all stride x stride phases of x at once.

    Position p of x takes tap t of the flipped kernel from y[(p - lead + t) / stride]. With
    p - lead = stride a - b and t = stride m + b, phase b is a convolution of y at stride 1:
    Σ_m y[a + m] taps[stride m + b]. The phases are output channels, which are then interleaved.
    """
    stride_h, stride_w = geometry.stride
    inputs = w.shape[2]
    # With a stride, dilation is written out as zeros between the taps.
    interior = []
    steps = []
    for stride, dilation in zip(geometry.stride, geometry.dilation, strict=True):
        interior.append(dilation - 1 if stride > 1 else 0)
        steps.append(1 if stride > 1 else dilation)
    zero = jnp.zeros((), w.dtype)
    dilate_h, dilate_w = ((0, 0, count) for count in interior)
    w = lax.pad(w, zero, [dilate_h, dilate_w, (0, 0, 0), (0, 0, 0)])
    lines = []
    for axis in range(2):
        line = phase_line(
            geometry.stride[axis],
            geometry.padding[axis],
            steps[axis],
            geometry.image[axis],
            w.shape[axis],
            y.shape[1 + axis],
        )
        lines.append(line)
    phases_h, phases_w = lines

    # Zeros make the flipped kernel a whole number of taps for each phase.
    extra_h = stride_h * phases_h.taps - w.shape[0]
    extra_w = stride_w * phases_w.taps - w.shape[1]
    flipped = w[::-1, ::-1]
    taps = jnp.pad(flipped, ((0, extra_h), (0, extra_w), (0, 0), (0, 0)))
    # (taps_h, stride_h, taps_w, stride_w, in, out), with phase b at index stride - 1 - b
    taps = taps.reshape(phases_h.taps, stride_h, phases_w.taps, stride_w, inputs, -1)
    taps = taps[:, ::-1, :, ::-1]
    taps = taps.transpose(0, 2, 5, 1, 3, 4)
    # (taps_h, taps_w, out, stride_h stride_w in): out-channels of y are the inputs here
    phase_channels = stride_h * stride_w * inputs
    taps = taps.reshape(phases_h.taps, phases_w.taps, -1, phase_channels)

    # Negative padding crops y before the convolution, the rest is padding of the convolution.
    crops = []
    pads = []
    for low, high in (phases_h.padding, phases_w.padding):
        crops.append((min(low, 0), min(high, 0)))
        pads.append((max(low, 0), max(high, 0)))
    y = pad_or_crop(y, *crops)
    phases = eigen.convolve(y, taps, (1, 1), pads, tuple(steps))
    n, height, width, _ = phases.shape
    # (n, height, width, stride_h, stride_w, in) -> (n, height stride_h, width stride_w, in)
    x = phases.reshape(n, height, width, stride_h, stride_w, inputs)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # the phases next to the axes that they refine
    x = x.reshape(n, height * stride_h, width * stride_w, inputs)
    # Cut out the pixels of x; the others belong to padding of the forward convolution.
    top = phases_h.offset
    left = phases_w.offset
    image_height, image_width = geometry.image
    return x[:, top : top + image_height, left : left + image_width]


class PhaseLine(NamedTuple):
    """The convolution of `dense_input_gradient` along one axis.

    Attributes:
        taps: Taps of each phase.
        padding: Padding of y, (low, high), also negative.
        offset: Index of the first pixel of x among the interleaved phases.
    """

    taps: int
    padding: Pair
    offset: int


def phase_line(
    stride: int, padding: Pair, step: int, image: int, kernel: int, output: int
) -> PhaseLine:
    """Compute the convolution along one axis, in the notation of `dense_input_gradient`.

    Args:
        stride: Stride of the forward convolution.
        padding: Its padding, (low, high).
        step: Its dilation where the taps are not spread by zeros.
        image: Size of x.
        kernel: Size of w.
        output: Size of y.
    """
    lead = step * (kernel - 1) - padding[0]
    first = -(lead // stride)  # a of the first position p
    last = -((lead + 1 - image) // stride)  # a of the last position p
    taps = -(-kernel // stride)
    high = last + step * (taps - 1) - output + 1
    offset = stride - 1 - lead - stride * first
    return PhaseLine(taps, (-first, high), offset)


def dense_kernel_gradient(x: Array, y: Array, geometry: Geometry) -> Array:
    """Convolve x with y as the kernel: channels of x are the batch, and the batch is the channels.

    The batch is in 16 tiles at most, which each contract 1024 terms or more: the patches of a tile
    then fit the cache, which is up to 3x faster than one tile.
    """
    kernel_height, kernel_width = geometry.kernel
    n, height, width, _ = y.shape
    terms = n * height * width
    max_tiles = 1 if is_whole() else min(16, max(1, terms // 1024))
    tile_size = -(-n // max_tiles)
    tiles = -(-n // max(1, tile_size))

    def one_tile(x: Array, y: Array) -> Array:
        x, y, padding = eigen.lengthen(x, y, geometry)
        w = convolve_nhwc(
            x.transpose(3, 1, 2, 0),  # (in, height, width, n)
            y.transpose(1, 2, 0, 3),  # (height', width', n, out)
            geometry.dilation,
            padding,
            rhs_dilation=geometry.stride,
            preferred_element_type=trees.wide(x),  # the sum over tiles is rounded once
        )
        # The stride may leave a margin of the image unused, which makes w larger.
        return w[:, :kernel_height, :kernel_width]

    # Images of zeros make all tiles equal.
    missing = tiles * tile_size - n
    pads = ((0, missing), (0, 0), (0, 0), (0, 0))
    x = jnp.pad(x, pads)
    y = jnp.pad(y, pads)
    w = sum_tiles(one_tile, max(1, tiles), x, y)
    # (in, height, width, out) -> (height, width, in, out)
    w = w.transpose(1, 2, 0, 3)
    return w.astype(x.dtype)


# Several groups.


def depthwise_forward(x: Array, w: Array, geometry: Geometry) -> Array:
    """Add the shifted images of all taps, each scaled channel by channel."""
    n, *size, outputs = output_shape(x.shape, w.shape, geometry)
    x = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    leading_ones = [1] * (1 + len(size))

    def product_of_tap(tap: tuple[int, ...]) -> Array:
        window = []
        for t, d, count, s in zip(tap, geometry.dilation, size, geometry.stride, strict=True):
            first = t * d
            last = first + (count - 1) * s
            window.append(slice(first, last + 1, s))
        pixels = x[:, *window, :, None]  # (n, *size, groups, 1)
        scales = w[tap].reshape(*leading_ones, geometry.groups, -1)
        return pixels * scales  # (n, *size, groups, outputs of a group)

    # A sum of elementwise products: with one channel a group there is no matrix product to gain.
    first, *rest = product(*map(range, geometry.kernel))
    total = sum(map(product_of_tap, rest), product_of_tap(first))
    return total.reshape(n, *size, outputs)


def depthwise_input_gradient(y: Array, w: Array, geometry: Geometry) -> Array:
    def forward(x: Array) -> Array:
        return depthwise_forward(x, w, geometry)

    return transpose(forward, input_shape(y.shape, w.shape, geometry), y)


def joined_kernel_gradient(x: Array, y: Array, geometry: Geometry) -> Array:
    """Compute the gradient of a kernel that connects all groups, and keep that within groups."""
    groups = geometry.groups
    inputs = x.shape[-1]
    outputs = y.shape[-1]
    forms = fastest_forms(geometry, x.dtype, inputs, outputs)
    # (height, width, in of all groups, out of all groups)
    w = forms.kernel_gradient(x, y, geometry._replace(groups=1))
    height, width = geometry.kernel
    group_inputs = inputs // groups
    w = w.reshape(height, width, groups, group_inputs, groups, outputs // groups)
    # The diagonal of the two axes of groups is last: (height, width, in, out, groups).
    w = jnp.diagonal(w, axis1=2, axis2=4)
    w = w.swapaxes(3, 4)  # (height, width, in, groups, out)
    return w.reshape(height, width, group_inputs, outputs)


def split_groups(form: Form, parts: int) -> Form:
    """Return the form that applies another one to each of some equal parts of the groups.

    Groups divide the last axis of all of x, w and y.
    """

    def apply(a: Array, b: Array, geometry: Geometry) -> Array:
        geometry = geometry._replace(groups=geometry.groups // parts)
        a_parts = jnp.split(a, parts, -1)
        b_parts = jnp.split(b, parts, -1)
        results = [form(*pair, geometry) for pair in zip(a_parts, b_parts, strict=True)]
        return jnp.concatenate(results, -1)

    return apply


# Volumes: the slices of x under the taps of the kernel's depth are further channels of an image.
# Training two layers in a scan, on volumes of 12³ with 3 to 16 channels, takes at most a 20th of
# the time of XLA's own form.


def depth_slices(x: Array, geometry: Geometry) -> Array:
    """Return the slices of x for each depth of the result, (n depth, height, width, taps in)."""
    stride = geometry.stride[0]
    dilation = geometry.dilation[0]
    taps = geometry.kernel[0]
    depth_padding = geometry.padding[0]
    x = jnp.pad(x, ((0, 0), depth_padding, (0, 0), (0, 0), (0, 0)))
    reach = dilation * (taps - 1) + 1
    depth = (x.shape[1] - reach) // stride + 1
    last = (depth - 1) * stride
    slices = []
    for start in range(0, taps * dilation, dilation):
        slices.append(x[:, start : start + last + 1 : stride])
    # (taps, n, depth, height, width, in) -> (n, depth, height, width, taps in)
    folded = fold(jnp.stack(slices), -1, geometry.groups)
    return merge_depth(folded)


def merge_depth(a: Array) -> Array:
    """Merge the depth into the batch, (n, depth, ...) -> (n depth, ...)."""
    n, depth, *rest = a.shape
    return a.reshape(n * depth, *rest)


def volume_forward(x: Array, w: Array, geometry: Geometry) -> Array:
    slices = depth_slices(x, geometry)
    # (depth, height, width, in, out) -> (height, width, depth in, out)
    kernel = fold(w, 2, 1)
    y = forward(slices, kernel, image_geometry(geometry))
    # (n depth', height', width', out) -> (n, depth', height', width', out)
    return y.reshape(output_shape(x.shape, w.shape, geometry))


def volume_input_gradient(y: Array, w: Array, geometry: Geometry) -> Array:
    def slices_of(x: Array) -> Array:
        return depth_slices(x, geometry)

    images = merge_depth(y)
    # (depth, height, width, in, out) -> (height, width, depth in, out)
    kernel = fold(w, 2, 1)
    slices = input_gradient(images, kernel, image_geometry(geometry))
    return transpose(slices_of, input_shape(y.shape, w.shape, geometry), slices)


def volume_kernel_gradient(x: Array, y: Array, geometry: Geometry) -> Array:
    slices = depth_slices(x, geometry)
    w = kernel_gradient(slices, merge_depth(y), image_geometry(geometry))
    # (height, width, depth in, out) -> (depth, height, width, in, out)
    return unfold(w, 2, 1, geometry.kernel[0])


# The selection. It alone depends on which form is fast; benchmarks/conv_in_scan.py measures each.


class Forms(NamedTuple):
    """A convolution and its two gradients.

    Attributes:
        forward: (x, w, geometry) -> y.
        input_gradient: (y, w, geometry) -> x.
        kernel_gradient: (x, y, geometry) -> w.
    """

    forward: Form
    input_gradient: Form
    kernel_gradient: Form


def fastest_forms(geometry: Geometry, dtype: jnp.dtype, inputs: int, outputs: int) -> Forms:
    """Select the fastest forms that are exact enough, for one group.

    Args:
        geometry: The convolution.
        dtype: Of x and w.
        inputs: In-channels of the group.
        outputs: Out-channels of the group.
    """
    min_results = block_results(geometry, inputs)
    if min_results:
        return Forms(
            partial(im2col.forward, min_results=min_results),
            partial(im2col.input_gradient, min_results=min_results),
            partial(im2col.kernel_gradient, min_results=min_results),
        )
    if suits_winograd(geometry, dtype, inputs, outputs):
        return Forms(winograd.forward, winograd.input_gradient, winograd.kernel_gradient)
    on_x: Form = dense_input_gradient
    if shrinks(geometry):
        on_x = partial(im2col.input_gradient, min_results=1)
    return Forms(dense_forward, on_x, dense_kernel_gradient)


def forward(x: Array, w: Array, geometry: Geometry) -> Array:
    if is_depthwise(w, geometry):
        return depthwise_forward(x, w, geometry)
    if len(geometry.kernel) == 3:
        return volume_forward(x, w, geometry)
    _, _, inputs, outputs = w.shape
    forms = fastest_forms(geometry, w.dtype, inputs, outputs // geometry.groups)
    form = split_groups(forms.forward, geometry.groups)
    return form(x, w, geometry)


def input_gradient(y: Array, w: Array, geometry: Geometry) -> Array:
    if is_depthwise(w, geometry):
        return depthwise_input_gradient(y, w, geometry)
    if len(geometry.kernel) == 3:
        return volume_input_gradient(y, w, geometry)
    _, _, inputs, outputs = w.shape
    forms = fastest_forms(geometry, w.dtype, inputs, outputs // geometry.groups)
    form = split_groups(forms.input_gradient, geometry.groups)
    return form(y, w, geometry)


def kernel_gradient(x: Array, y: Array, geometry: Geometry) -> Array:
    if len(geometry.kernel) == 3:
        return volume_kernel_gradient(x, y, geometry)
    # Depthwise kernels too: their groups are joined to parts of 16 channels.
    parts = group_parts(geometry.groups, x.shape[-1])
    form = split_groups(joined_kernel_gradient, parts)
    return form(x, y, geometry)


def group_parts(groups: int, inputs: int) -> int:
    """Return the number of parts of the groups, each of 16 channels at most where that is possible.

    Narrow groups are computed together, since XLA's convolution is slow on fewer channels.
    """
    for parts in range(1, groups):
        if groups % parts == 0 and inputs <= 16 * parts:
            return parts
    return groups


def is_depthwise(w: Array, geometry: Geometry) -> bool:
    """Return whether each group has one in-channel."""
    return geometry.groups > 1 and w.shape[-2] == 1


def block_results(geometry: Geometry, inputs: int) -> int:
    """Return the least number of results of a block of `im2col`, or 0 where it is not faster."""
    if geometry.dilation != (1, 1):
        return 0
    is_pointwise = geometry.kernel == (1, 1)
    if is_pointwise or (min(geometry.stride) > 1 and inputs >= 16):
        return 1  # the pixels copied for a result are rarely those of another one
    if prod(geometry.kernel) > prod(geometry.image):
        return 1  # XLA would flip such a kernel, and then take its slow path
    return 2 if inputs <= 4 else 0


def shrinks(geometry: Geometry) -> bool:
    """Return whether y is so small that convolving its gradients would multiply mostly zeros."""
    if not geometry.stride == geometry.dilation == (1, 1):
        return False
    results = prod(output_size(geometry))
    pixels = prod(geometry.image)
    return 3 * results < 2 * pixels


def suits_winograd(geometry: Geometry, dtype: jnp.dtype, inputs: int, outputs: int) -> bool:
    """Return whether `winograd` applies, and is faster and exact enough."""
    is_plain = geometry.stride == geometry.dilation == (1, 1)
    is_exact = dtype.itemsize >= 4
    is_wide = min(inputs, outputs) >= 32  # with fewer channels the transforms cost too much
    return is_plain and is_exact and is_wide and geometry.kernel == (3, 3)
