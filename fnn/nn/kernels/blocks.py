"""Convolutions of few channels: some neighboring results at once, as one product of matrices.

With 3 channels the rows of a product would be too short for the units that multiply. So a row holds all pixels that
`count` neighboring results see, and the matrix has the kernel that many times, each a pixel further on: zeros add
operations, but the results of a row are `count` times as many, and the pixels are copied fewer times.
"""

import jax.numpy as jnp
from jax import Array, lax

from fnn.nn.kernels.forms import Geometry, kernel_shape, output_shape

AT_ONCE = {"forward": 2, "kernel_gradient": 4}  # results; more where the kernel is wide


def forward(x: Array, w: Array, geometry: Geometry) -> Array:
    """A convolution of one group at stride and dilation 1."""
    n, height, width, outputs = output_shape(x.shape, w.shape, geometry)
    columns = geometry.kernel[1]
    count = max(AT_ONCE["forward"], columns - 1)
    seen = _seen(x, count, (height, width), geometry)
    shifted = [jnp.pad(w, ((0, 0), (k, count - 1 - k), (0, 0), (0, 0))) for k in range(count)]
    matrix = jnp.stack(shifted, 3).reshape(seen.shape[1], count * outputs)
    return (seen @ matrix).reshape(n, height, -(-width // count) * count, outputs)[:, :, :width]


def kernel_gradient(x: Array, y: Array, geometry: Geometry) -> Array:
    """The gradient of the matrix, of which each kernel in it takes its part."""
    rows, columns, inputs, outputs = kernel_shape(x.shape, y.shape, geometry)
    count = max(AT_ONCE["kernel_gradient"], columns - 1)
    y = jnp.pad(y, ((0, 0), (0, 0), (0, -y.shape[2] % count), (0, 0)))
    matrix = _seen(x, count, y.shape[1:3], geometry).T @ y.reshape(-1, count * outputs)
    matrix = matrix.reshape(rows, count - 1 + columns, inputs, count, outputs)
    return sum((matrix[:, k : k + columns, :, k] for k in range(1, count)), matrix[:, :columns, :, 0])


def _seen(x: Array, count: int, size: tuple[int, ...], geometry: Geometry) -> Array:
    """What each block of `count` results sees: (n height blocks, rows (count - 1 + columns) in)."""
    (rows, columns), (height, width) = geometry.kernel, size
    n, inputs, blocks = x.shape[0], x.shape[3], -(-width // count)
    (top, bottom), (left, right) = geometry.padding
    extra = count * (blocks + 1) - (x.shape[2] + left + right)  # one block more, for the last to see
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (top, bottom, 0), (left, right + extra, 0), (0, 0, 0)])
    own = x.reshape(n, x.shape[1], blocks + 1, count * inputs)
    seen = jnp.concatenate([own[:, :, :-1], own[:, :, 1:, : (columns - 1) * inputs]], -1)
    seen = jnp.concatenate([seen[:, i : i + height] for i in range(rows)], -1)
    return seen.reshape(n * height * blocks, seen.shape[-1])
