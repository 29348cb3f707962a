"""Convolutions of XLA's at which all cores work.

XLA:CPU (of jax 0.10) gives those of more than 16 channels to YNNPACK, which works on one core, and where there is no
padding is slow on that. What YNNPACK does not take goes to Eigen, on all cores: results or kernels that are longer than
the image. So they get some lines more. 3 x 3 from 24 to 64 channels at 31 x 31 then takes two thirds of the time, its
kernel's gradient half of it, and 5 x 5 from 16 to 32 channels at 28 x 28 without padding a tenth. This can go when
YNNPACK works on all cores.
"""

from collections.abc import Sequence
from math import prod

import jax.numpy as jnp
from jax import Array, lax

from fnn.nn.kernels.forms import Geometry, Pads, Pair, Shape, Sizes, nhwc, output_shape

NARROW = 16  # channels that YNNPACK leaves to Eigen
SMALL = 2e7  # multiplications at which more cores are no faster
SPARE = 2  # the most lines to work out for one that is wanted


def convolve(x: Array, w: Array, strides: Sizes, padding: Sequence[Pair], dilation: Sizes) -> Array:
    """NHWC x HWIO -> NHWC, of one group."""
    geometry = Geometry(strides, tuple(padding), dilation, 1, x.shape[1:3], w.shape[:2])
    y = output_shape(x.shape, w.shape, geometry)
    axis = _axis(y, geometry)
    if axis is None or not _is_taken(w.shape[2:], x, prod(y) * prod(w.shape[:3])):
        return nhwc(x, w, strides, padding, rhs_dilation=dilation)
    lines = y[1 + axis]
    more = max(0, geometry.image[axis] + 1 - lines)
    longer = nhwc(x, w, strides, _plus(padding, axis, (0, more)), rhs_dilation=dilation)
    return lax.slice_in_dim(longer, 0, lines, axis=1 + axis)


def lengthened(x: Array, y: Array, geometry: Geometry) -> tuple[Array, Array, Pads]:
    """Images, what to convolve them with as kernels, the gradients of results, and the padding to do that at.

    A kernel that has more pixels than the image would be turned around by XLA, and then take its slow path. So along
    the other axis the padding is written out, and along this one as much as leaves the kernel a line longer.
    """
    axis, pads = _axis(y.shape, geometry), geometry.padding
    is_larger = prod(y.shape[1:3]) > prod(geometry.image)
    is_taken = _is_taken((len(x), y.shape[-1]), x, prod(y.shape) * x.shape[-1] * prod(geometry.kernel))
    if axis is None or not (is_larger or is_taken):
        return x, y, pads
    before, lines = geometry.image[axis], y.shape[1 + axis]
    low = min(pads[axis][0], max(0, lines - 1 - before))
    high = max(0, lines - 1 - before - low)
    more = max(0, before + 1 - lines)
    written = _plus(((0, 0), pads[1]) if axis == 0 else (pads[0], (0, 0)), axis, (low, high))
    left = _plus(((0, 0), (0, 0)), axis, (pads[axis][0] - low, pads[axis][1] - high + more))
    return _filled(x, written), _filled(y, _plus(((0, 0), (0, 0)), axis, (0, more))), left


def _is_taken(features: Sizes, x: Array, multiplications: int) -> bool:
    """Whether YNNPACK takes it, and is slower."""
    return max(features) > NARROW and x.dtype.itemsize >= 4 and multiplications > SMALL


def _axis(y: Shape, geometry: Geometry) -> int | None:
    """The axis along which the fewest lines make the result longer than the image, if it is worth it."""
    worth = [a for a in (0, 1) if geometry.stride[a] == 1 and geometry.image[a] < SPARE * y[1 + a]]
    return min(worth, key=lambda a: geometry.image[a] / y[1 + a], default=None)


def _plus(pads: Sequence[Pair], axis: int, more: Pair) -> Pads:
    return tuple(
        (low + (own == axis) * more[0], high + (own == axis) * more[1]) for own, (low, high) in enumerate(pads)
    )


def _filled(x: Array, pads: Pads) -> Array:
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))
