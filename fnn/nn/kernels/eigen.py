"""Convolutions of XLA's at which all cores work, and of few channels two results at once.

XLA:CPU (of jax 0.10) gives those of more than 16 channels to YNNPACK, which works on one core, and where there is no
padding is slow on that. What YNNPACK does not take goes to Eigen, on all cores: results or kernels that are longer than
the image. So they get some lines more. 3 x 3 from 24 to 64 channels at 31 x 31 then takes two thirds of the time, its
kernel's gradient half of it, and 5 x 5 from 16 to 32 channels at 28 x 28 without padding a tenth. This can go when
YNNPACK works on all cores.

Eigen packs the pixels that each result sees, and multiplies by several channels at once. Two neighboring results as one
of twice the channels see fewer pixels in all, and fill the units that multiply: 3 x 3 from 8 to 8 channels at 32 x 32
takes half the time so.
"""

from collections.abc import Sequence
from math import prod

import jax.numpy as jnp
from jax import Array

from fnn.nn.kernels.reference import Geometry, Pads, Pair, Sizes, beside, nhwc, output_shape

NARROW = 16  # channels that YNNPACK leaves to Eigen
SMALL = 2e7  # multiplications at which more cores are no faster
FEW = 256  # connections from in-channels to out-channels: for fewer two results at once are faster
SPARE = 2  # the most lines to work out for one that is wanted


def convolve(x: Array, w: Array, strides: Sizes, padding: Sequence[Pair], dilation: Sizes) -> Array:
    """NHWC x HWIO -> NHWC, of one group."""
    geometry = Geometry(strides, tuple(padding), dilation, 1, x.shape[1:3], w.shape[:2])
    n, lines, width, outputs = output_shape(x.shape, w.shape, geometry)
    results = 2 if w.shape[2] * outputs < FEW and strides[1] == dilation[1] == 1 else 1
    w = beside(w, results, 1)
    blocks = -(-width // results)
    is_slow = _is_slow(w.shape[2:], x, n * lines * blocks * prod(w.shape))
    more = max(0, x.shape[1] + 1 - lines) if is_slow and _is_long(lines, geometry) else 0
    (top, bottom), (left, right) = padding
    pads = (top, bottom + more), (left, right + results * blocks - width)
    y = nhwc(x, w, (strides[0], strides[1] * results), pads, rhs_dilation=dilation)[:, :lines]
    return y.reshape(n, lines, results * blocks, outputs)[:, :, :width]


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
