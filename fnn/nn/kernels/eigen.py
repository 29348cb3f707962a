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
from jax import Array

from fnn.nn.kernels.forms import Geometry, Pads, Pair, Sizes, nhwc, output_shape

NARROW = 16  # channels that YNNPACK leaves to Eigen
SMALL = 2e7  # multiplications at which more cores are no faster
SPARE = 2  # the most lines to work out for one that is wanted


def convolve(x: Array, w: Array, strides: Sizes, padding: Sequence[Pair], dilation: Sizes) -> Array:
    """NHWC x HWIO -> NHWC, of one group."""
    (top, bottom), sides = padding
    geometry = Geometry(strides, (padding[0], sides), dilation, 1, x.shape[1:3], w.shape[:2])
    y = output_shape(x.shape, w.shape, geometry)
    worth = _is_slow(w.shape[2:], x, prod(y) * prod(w.shape[:3])) and _is_long(y[1], geometry)
    more = max(0, x.shape[1] + 1 - y[1]) if worth else 0
    return nhwc(x, w, strides, [(top, bottom + more), sides], rhs_dilation=dilation)[:, : y[1]]


def lengthened(x: Array, y: Array, geometry: Geometry) -> tuple[Array, Array, Pads]:
    """Images, what to convolve them with as kernels, the gradients of results, and the padding to do that at.

    A kernel that has more pixels than the image would be turned around by XLA, and then take its slow path. So padding
    is written out: at the sides, and above and below as much as leaves the kernel a line longer.
    """
    ((top, bottom), sides), (height, lines) = geometry.padding, (x.shape[1], y.shape[1])
    is_larger = prod(y.shape[1:3]) > prod(geometry.image)
    is_slow = _is_slow((len(x), y.shape[3]), x, prod(y.shape) * x.shape[3] * prod(geometry.kernel))
    if not (is_larger or is_slow) or not _is_long(lines, geometry):
        return x, y, geometry.padding
    more, spare = max(0, height + 1 - lines), max(0, lines - 1 - height)
    above = min(top, spare)
    below = spare - above
    x = jnp.pad(x, ((0, 0), (above, below), sides, (0, 0)))
    y = jnp.pad(y, ((0, 0), (0, more), (0, 0), (0, 0)))
    return x, y, ((top - above, bottom - below + more), (0, 0))


def _is_slow(features: Sizes, x: Array, multiplications: int) -> bool:
    """Whether YNNPACK would take it, for longer than Eigen."""
    return max(features) > NARROW and x.dtype.itemsize >= 4 and multiplications > SMALL


def _is_long(lines: int, geometry: Geometry) -> bool:
    """Whether so many lines of results need not become many more to be more than the image has."""
    return geometry.stride[0] == 1 and geometry.image[0] < SPARE * lines
