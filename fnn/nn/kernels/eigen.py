"""XLA convolutions on CPU that run on all cores, with two results at once for few channels.

XLA:CPU (of jax 0.10) gives convolutions of more than 16 channels to YNNPACK, which runs on one core
and is slow without padding. Those that YNNPACK does not take, whose results or kernels are longer
than the image, go to Eigen, which runs on all cores. Therefore some lines are added here. 3 x 3
from 24 to 64 channels at 31 x 31 then takes two thirds of the time, the gradient of its kernel half
of it, and 5 x 5 from 16 to 32 channels at 28 x 28 without padding a tenth. This can go when YNNPACK
runs on all cores.

Eigen packs the pixels under each window, and multiplies by several channels at once. Two
neighboring results as one of twice the channels need fewer pixels in all, and fill the vector
units: 3 x 3 from 8 to 8 channels at 32 x 32 takes half the time.
"""

from collections.abc import Sequence
from math import prod

import jax.numpy as jnp
from jax import Array

from fnn.nn.kernels.reference import (
    Geometry,
    Pads,
    Pair,
    Sizes,
    convolve_nhwc,
    output_shape,
    shifted_kernels,
)

EIGEN_CHANNELS = 16  # up to this number of channels XLA uses Eigen in any case
SMALL = 2e7  # multiplications up to which more cores are not faster
FEW_CONNECTIONS = 256  # in-channels x out-channels, below which two results at once are faster
MAX_LINES_RATIO = 2  # the most lines to compute for one that is needed


def convolve(
    x: Array,
    w: Array,
    strides: Sizes,
    padding: Sequence[Pair],
    dilation: Sizes,
) -> Array:
    """Convolve images in the layout NHWC x HWIO -> NHWC, in one group."""
    geometry = Geometry(
        stride=strides,
        padding=tuple(padding),
        dilation=dilation,
        groups=1,
        image=x.shape[1:3],
        kernel=w.shape[:2],
    )
    n, lines, width, outputs = output_shape(x.shape, w.shape, geometry)
    is_narrow = w.shape[2] * outputs < FEW_CONNECTIONS
    # The next result is the kernel one tap further only without stride and dilation.
    is_dense = strides[1] == dilation[1] == 1
    results = 2 if is_narrow and is_dense else 1
    w = shifted_kernels(w, results, 1)
    blocks = -(-width // results)
    multiplications = n * lines * blocks * prod(w.shape)
    is_slow = _is_slow(w.shape[2:], x, multiplications)
    extra_lines = 0
    if is_slow and _is_long(lines, geometry):
        # One line more than the image has is enough for XLA to use Eigen.
        extra_lines = max(0, x.shape[1] + 1 - lines)
    (top, bottom), (left, right) = padding
    extra_columns = results * blocks - width
    pads = ((top, bottom + extra_lines), (left, right + extra_columns))
    block_strides = (strides[0], strides[1] * results)
    y = convolve_nhwc(x, w, block_strides, pads, rhs_dilation=dilation)
    y = y[:, :lines]
    # (n, lines, blocks, results out) -> (n, lines, blocks results, out)
    y = y.reshape(n, lines, results * blocks, outputs)
    return y[:, :, :width]


def lengthen(
    x: Array,
    y: Array,
    geometry: Geometry,
) -> tuple[Array, Array, Pads]:
    """Prepare the convolution of x with y, as a kernel, for the gradient of a kernel.

    XLA would flip a kernel of more pixels than the image, and then take its slow path. Therefore
    padding is written into x: at the sides, and above and below as far as y stays a line longer.

    Args:
        x: Images (batch, height, width, in).
        y: Gradients of the results (batch, height', width', out).
        geometry: The convolution of which the kernel's gradient is computed.

    Returns:
        x, y with further lines, and the padding that is left.
    """
    (top, bottom), sides = geometry.padding
    height = x.shape[1]
    lines = y.shape[1]
    n, _, _, outputs = y.shape
    inputs = x.shape[3]
    kernel_pixels = prod(y.shape[1:3])
    is_larger = kernel_pixels > prod(geometry.image)
    multiplications = prod(y.shape) * inputs * prod(geometry.kernel)
    # Here the channels of the convolution are the batch.
    is_slow = _is_slow((n, outputs), x, multiplications)
    if not (is_larger or is_slow) or not _is_long(lines, geometry):
        return x, y, geometry.padding
    extra_lines = max(0, height + 1 - lines)
    # Lines of padding that x can hold and still be shorter than y.
    spare = max(0, lines - 1 - height)
    above = min(top, spare)
    below = spare - above
    x = jnp.pad(x, ((0, 0), (above, below), sides, (0, 0)))
    y = jnp.pad(y, ((0, 0), (0, extra_lines), (0, 0), (0, 0)))
    # y is longer as a kernel, so that x gets as many lines at the bottom for the same results.
    remaining = (top - above, bottom - below + extra_lines)
    return x, y, (remaining, (0, 0))


def _is_slow(
    features: Sizes,
    x: Array,
    multiplications: int,
) -> bool:
    """Return whether YNNPACK would take the convolution and be slower than Eigen."""
    is_wide = max(features) > EIGEN_CHANNELS
    return is_wide and x.dtype.itemsize >= 4 and multiplications > SMALL


def _is_long(lines: int, geometry: Geometry) -> bool:
    """Return whether few lines more make the results longer than the image."""
    if geometry.stride[0] > 1:
        return False  # the results have at most about half of the image's lines
    return geometry.image[0] < MAX_LINES_RATIO * lines
