"""The forms that are fast on XLA:CPU, inside loops as well as outside.

XLA:CPU has one fast convolution, of NHWC images with HWIO kernels, neither grouped nor dilated on the left; everything
here is brought to that form. Which form is taken where stands at the end.
"""

from functools import partial
from itertools import product
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn import trees
from fnn.nn.kernels import eigen, im2col, winograd
from fnn.nn.kernels.batch_tiles import added
from fnn.nn.kernels.reference import (
    Form,
    Geometry,
    Pair,
    fold,
    input_shape,
    nhwc,
    output_shape,
    output_size,
    unfold,
)

# One group.


def dense_forward(x: Array, w: Array, geometry: Geometry) -> Array:
    return eigen.convolve(x, w, geometry.stride, geometry.padding, geometry.dilation)


def dense_input_gradient(y: Array, w: Array, geometry: Geometry) -> Array:
    """Convolve y with the flipped kernel, for all stride x stride phases of x at once, and interleave the phases.

    Position p of x takes tap t of the flipped kernel from y[(p - lead + t) / stride]. With p - lead = stride a - b,
    t = stride m + b, phase b is a convolution of y at stride 1: Σ_m y[a + m] taps[stride m + b].
    """
    (sh, sw), inputs = geometry.stride, w.shape[2]
    # Across a stride, dilation is written out as zeros between the taps.
    spread = [d if s > 1 else 1 for s, d in zip(geometry.stride, geometry.dilation, strict=True)]
    w = lax.pad(w, jnp.zeros((), w.dtype), [(0, 0, d - 1) for d in spread] + [(0, 0, 0)] * 2)
    step = [d // e for d, e in zip(geometry.dilation, spread, strict=True)]
    lines = zip(
        geometry.stride,
        geometry.padding,
        step,
        geometry.image,
        w.shape[:2],
        y.shape[1:3],
        strict=True,
    )
    (mh, pad_h, start_h), (mw, pad_w, start_w) = (phase_line(*line) for line in lines)

    taps = jnp.pad(
        w[::-1, ::-1], ((0, sh * mh - w.shape[0]), (0, sw * mw - w.shape[1]), (0, 0), (0, 0))
    )
    taps = taps.reshape(mh, sh, mw, sw, inputs, -1)[:, ::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
    taps = taps.reshape(mh, mw, -1, sh * sw * inputs)  # (mh, mw, out, phases * in)

    y = lax.pad(
        y,
        jnp.zeros((), y.dtype),
        [(0, 0, 0), *((min(a, 0), min(b, 0), 0) for a, b in (pad_h, pad_w)), (0, 0, 0)],
    )
    phases = eigen.convolve(
        y, taps, (1, 1), [(max(a, 0), max(b, 0)) for a, b in (pad_h, pad_w)], tuple(step)
    )
    n, height, width, _ = phases.shape
    x = phases.reshape(n, height, width, sh, sw, inputs).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(n, height * sh, width * sw, inputs)
    return x[:, start_h : start_h + geometry.image[0], start_w : start_w + geometry.image[1]]


def phase_line(
    stride: int, padding: Pair, step: int, image: int, kernel: int, output: int
) -> tuple[int, Pair, int]:
    """Taps per phase, padding of y and offset of x among the interleaved phases, along one axis."""
    lead = step * (kernel - 1) - padding[0]
    first, last = (
        -(lead // stride),
        -((lead + 1 - image) // stride),
    )  # a of the first and of the last p
    taps = -(-kernel // stride)
    return taps, (-first, last + step * (taps - 1) - output + 1), stride - 1 - lead - stride * first


def dense_kernel_gradient(x: Array, y: Array, geometry: Geometry) -> Array:
    """Convolve x with y, input channels in the place of the batch and the batch in the place of channels.

    At most 16 pieces of the batch, each contracting 1024 terms or more, are added up: the patches of a piece then fit
    the cache, which is up to 3 times faster than one piece.
    """
    kh, kw = geometry.kernel
    n, height, width, _ = y.shape
    size = -(-n // min(16, max(1, n * height * width // 1024)))
    parts = -(-n // max(1, size))

    def some(x: Array, y: Array) -> Array:
        x, y, padding = eigen.lengthened(x, y, geometry)
        w = nhwc(
            x.transpose(3, 1, 2, 0),
            y.transpose(1, 2, 0, 3),
            geometry.dilation,
            padding,
            rhs_dilation=geometry.stride,
            preferred_element_type=trees.wide(x),  # so that the sum of pieces rounds once
        )
        return w[:, :kh, :kw]  # the stride may leave a margin of the image unused

    # Images of zeros, so that all pieces are as large.
    x, y = (jnp.pad(own, ((0, parts * size - n), *[(0, 0)] * 3)) for own in (x, y))
    return added(some, max(1, parts), x, y).transpose(1, 2, 0, 3).astype(x.dtype)


# Many groups.


def depthwise_forward(x: Array, w: Array, geometry: Geometry) -> Array:
    """Sum over taps of shifted images, each scaled per channel."""
    n, *size, outputs = output_shape(x.shape, w.shape, geometry)
    x = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))

    def tap(place: tuple[int, ...]) -> Array:
        axes = zip(place, geometry.dilation, size, geometry.stride, strict=True)
        seen = (slice(t * d, t * d + (count - 1) * s + 1, s) for t, d, count, s in axes)
        return x[:, *seen, :, None] * w[place].reshape(*[1] * (1 + len(size)), geometry.groups, -1)

    first, *rest = product(*map(range, geometry.kernel))
    return sum(map(tap, rest), tap(first)).reshape(n, *size, outputs)


def depthwise_input_gradient(y: Array, w: Array, geometry: Geometry) -> Array:
    x = jax.ShapeDtypeStruct(input_shape(y.shape, w.shape, geometry), y.dtype)
    return jax.linear_transpose(lambda x: depthwise_forward(x, w, geometry), x)(y)[0]


def bundled_kernel_gradient(x: Array, y: Array, geometry: Geometry) -> Array:
    """The gradient of a kernel that would connect all groups, of which only the connections within groups are kept."""
    groups = geometry.groups
    w = fastest(geometry, x.dtype, x.shape[-1], y.shape[-1]).kernel_gradient(
        x, y, geometry._replace(groups=1)
    )
    kh, kw, inputs, outputs = w.shape
    w = w.reshape(kh, kw, groups, inputs // groups, groups, outputs // groups)
    return (
        jnp.diagonal(w, axis1=2, axis2=4).swapaxes(3, 4).reshape(kh, kw, inputs // groups, outputs)
    )


def split(form: Form, parts: int) -> Form:
    """Apply a form to each of some equal parts of the groups; in all three, groups divide the last axis."""

    def apply(a: Array, b: Array, geometry: Geometry) -> Array:
        geometry = geometry._replace(groups=geometry.groups // parts)
        pairs = zip(jnp.split(a, parts, -1), jnp.split(b, parts, -1), strict=True)
        return jnp.concatenate([form(*pair, geometry) for pair in pairs], -1)

    return apply


# Volumes: the slices of x that meet the taps of the kernel's depth are further channels of an image. To train two
# layers in a scan, on volumes of 12³ with 3 to 16 channels, takes a 20th of the time of XLA's own or less.


def plane(geometry: Geometry) -> Geometry:
    """The geometry along the height and the width."""
    stride, padding, dilation, groups, image, kernel = geometry
    return Geometry(stride[1:], padding[1:], dilation[1:], groups, image[1:], kernel[1:])


def planes(x: Array, geometry: Geometry) -> Array:
    """For each depth of the result the slices that it is made of, tap by tap: (n d, height, width, taps in)."""
    stride, dilation, taps = geometry.stride[0], geometry.dilation[0], geometry.kernel[0]
    x = jnp.pad(x, ((0, 0), geometry.padding[0], *[(0, 0)] * 3))
    depth = (x.shape[1] - dilation * (taps - 1) - 1) // stride + 1
    starts = range(0, taps * dilation, dilation)
    seen = jnp.stack([x[:, start : start + (depth - 1) * stride + 1 : stride] for start in starts])
    return flat(fold(seen, -1, geometry.groups))


def flat(a: Array) -> Array:
    """The depth as part of the batch."""
    return a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])


def volume_forward(x: Array, w: Array, geometry: Geometry) -> Array:
    y = forward(planes(x, geometry), fold(w, 2, 1), plane(geometry))
    return y.reshape(output_shape(x.shape, w.shape, geometry))


def volume_input_gradient(y: Array, w: Array, geometry: Geometry) -> Array:
    x = jax.ShapeDtypeStruct(input_shape(y.shape, w.shape, geometry), y.dtype)
    seen = input_gradient(flat(y), fold(w, 2, 1), plane(geometry))
    return jax.linear_transpose(lambda x: planes(x, geometry), x)(seen)[0]


def volume_kernel_gradient(x: Array, y: Array, geometry: Geometry) -> Array:
    w = kernel_gradient(planes(x, geometry), flat(y), plane(geometry))
    return unfold(w, 2, 1, geometry.kernel[0])


# The choice: the one place that knows which form is fast where. What each is worth: benchmarks/conv_in_scan.py.


class Forms(NamedTuple):
    """What works out a convolution and its gradients."""

    forward: Form
    input_gradient: Form
    kernel_gradient: Form


def fastest(geometry: Geometry, dtype: jnp.dtype, inputs: int, outputs: int) -> Forms:
    """Of the forms for one group those that are the fastest, and exact enough, for so many channels a group."""
    if least := results_a_row(geometry, inputs):
        every = im2col.forward, im2col.input_gradient, im2col.kernel_gradient
        return Forms(*(partial(form, least=least) for form in every))
    if is_wide(geometry, dtype, inputs, outputs):
        return Forms(winograd.forward, winograd.input_gradient, winograd.kernel_gradient)
    on_x = partial(im2col.input_gradient, least=1) if shrinks(geometry) else dense_input_gradient
    return Forms(dense_forward, on_x, dense_kernel_gradient)


def forward(x: Array, w: Array, geometry: Geometry) -> Array:
    if geometry.groups > 1 and w.shape[-2] == 1:
        return depthwise_forward(x, w, geometry)
    if len(geometry.kernel) == 3:
        return volume_forward(x, w, geometry)
    forms = fastest(geometry, w.dtype, w.shape[2], w.shape[3] // geometry.groups)
    return split(forms.forward, geometry.groups)(x, w, geometry)


def input_gradient(y: Array, w: Array, geometry: Geometry) -> Array:
    if geometry.groups > 1 and w.shape[-2] == 1:
        return depthwise_input_gradient(y, w, geometry)
    if len(geometry.kernel) == 3:
        return volume_input_gradient(y, w, geometry)
    forms = fastest(geometry, w.dtype, w.shape[2], w.shape[3] // geometry.groups)
    return split(forms.input_gradient, geometry.groups)(y, w, geometry)


def kernel_gradient(x: Array, y: Array, geometry: Geometry) -> Array:
    if len(geometry.kernel) == 3:
        return volume_kernel_gradient(x, y, geometry)
    # Narrow groups are computed together, 16 channels at a time: XLA's kernel is slow on fewer.
    groups, inputs = geometry.groups, x.shape[-1]
    parts = next(
        p for p in range(1, groups + 1) if groups % p == 0 and (inputs <= 16 * p or p == groups)
    )
    return split(bundled_kernel_gradient, parts)(x, y, geometry)


def results_a_row(geometry: Geometry, inputs: int) -> int:
    """How many results at least `blocks` should work out at once, or 0 where another form is faster."""
    if geometry.dilation != (1, 1):
        return 0
    if geometry.kernel == (1, 1) or (min(geometry.stride) > 1 and inputs >= 16):
        return 1  # what is copied for a result is seldom seen by another one
    if prod(geometry.kernel) > prod(geometry.image):
        return 1  # XLA would turn such a kernel around, and then take its slow path
    return 2 if inputs <= 4 else 0


def shrinks(geometry: Geometry) -> bool:
    """Whether there is so little padding that to convolve the gradients of results is to multiply mostly zeros."""
    plain = geometry.stride == geometry.dilation == (1, 1)
    return plain and 3 * prod(output_size(geometry)) < 2 * prod(geometry.image)


def is_wide(geometry: Geometry, dtype: jnp.dtype, inputs: int, outputs: int) -> bool:
    """Whether there are so many channels, and digits, that fewer multiplications are faster and exact enough."""
    enough = min(inputs, outputs) >= 32 and dtype.itemsize >= 4
    return enough and geometry.kernel == (3, 3) and geometry.stride == geometry.dilation == (1, 1)
