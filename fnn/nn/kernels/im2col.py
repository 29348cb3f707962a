"""Convolutions as one product of matrices, of which a row holds all pixels that some neighboring results see.

The matrix has the kernel once for each of these results, a stride further on each time, and zeros elsewhere. With few
channels a row for one result would be too short for the units that multiply: zeros add operations, but rows are longer,
and the pixels are copied fewer times. With a stride there are few results, so that copying costs little.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from fnn import trees
from fnn.nn.kernels.batch_tiles import added, mapped, pieces
from fnn.nn.kernels.reference import Geometry, Shape, beside, output_shape

CACHE = 4e6  # bytes that the rows of a piece of the batch may take


class Cut(NamedTuple):
    """How the results are cut into blocks: a row of the product is what one sees."""

    results: int  # a block
    blocks: int  # a line of results
    step: int  # pixels from a block to the next
    reach: int  # pixels of a line that a block sees, as many as two steps at most
    lines: int  # of results
    pieces: int  # of the batch


def cut(y: Shape, inputs: int, itemsize: int, geometry: Geometry, least: int) -> Cut:
    """Blocks of `least` results, or of as many as a kernel overlaps with, where y has the shape of the results."""
    (rows, columns), stride, (n, height, width, outputs) = geometry.kernel, geometry.stride[1], y
    results = max(least, -(-columns // stride) - 1)
    blocks, reach = -(-width // results), (results - 1) * stride + columns
    made = n * height * blocks * rows * reach * inputs * itemsize
    # Pieces of the results have to be put together, which for many of them costs more than the cache saves.
    parts = pieces(n, made, CACHE) if made > n * height * width * outputs * itemsize else 1
    return Cut(results, blocks, results * stride, reach, height, parts)


def forward(x: Array, w: Array, geometry: Geometry, least: int) -> Array:
    """A convolution of one group at dilation 1."""
    _, height, width, outputs = y = output_shape(x.shape, w.shape, geometry)
    own = cut(y, x.shape[3], x.dtype.itemsize, geometry, least)
    matrix = _matrix(w, own, geometry)

    def some(x: Array) -> Array:
        return (_seen(x, own, geometry) @ matrix).reshape(
            len(x), height, own.blocks * own.results, outputs
        )

    return mapped(some, x, own.pieces)[:, :, :width]


def input_gradient(y: Array, w: Array, geometry: Geometry, least: int) -> Array:
    """The transpose in x: what blocks both see is added up."""
    own = cut(y.shape, w.shape[2], y.dtype.itemsize, geometry, least)
    matrix = _matrix(w, own, geometry)

    def some(y: Array) -> Array:
        seen = jnp.matmul(_rows(y, own), matrix.T, preferred_element_type=trees.wide(y))
        return _put_back(seen, len(y), own, geometry).astype(y.dtype)

    return mapped(some, _filled(y, own), own.pieces)


def kernel_gradient(x: Array, y: Array, geometry: Geometry, least: int) -> Array:
    """The transpose in w: the gradient of the matrix, of which each kernel in it takes its part."""
    (rows, columns), stride = geometry.kernel, geometry.stride[1]
    own = cut(y.shape, x.shape[3], x.dtype.itemsize, geometry, least)

    def some(x: Array, y: Array) -> Array:
        return jnp.matmul(
            _seen(x, own, geometry).T, _rows(y, own), preferred_element_type=trees.wide(x)
        )

    matrix = added(some, own.pieces, x, _filled(y, own)).reshape(
        rows, own.reach, x.shape[3], own.results, y.shape[3]
    )
    kernels = [matrix[:, k * stride : k * stride + columns, :, k] for k in range(own.results)]
    return sum(kernels[1:], kernels[0]).astype(x.dtype)


def _matrix(w: Array, own: Cut, geometry: Geometry) -> Array:
    """(rows reach in, results out)"""
    return beside(w, own.results, geometry.stride[1]).reshape(-1, own.results * w.shape[3])


def _filled(y: Array, own: Cut) -> Array:
    """The results, with zeros for those that the last block of a line has too many."""
    return jnp.pad(y, ((0, 0), (0, 0), (0, own.blocks * own.results - y.shape[2]), (0, 0)))


def _rows(y: Array, own: Cut) -> Array:
    """The results a block a row: (n lines blocks, results out)."""
    return y.reshape(len(y) * own.lines * own.blocks, own.results * y.shape[3])


def _seen(x: Array, own: Cut, geometry: Geometry) -> Array:
    """What each block sees: (n lines blocks, rows reach in)."""
    n, inputs, rows, down = x.shape[0], x.shape[3], geometry.kernel[0], geometry.stride[0]
    below = down * (own.lines - 1) + 1  # the lines that one row of the kernel sees
    # As many pixels as the blocks are apart, and a block more for the last to see.
    size = below + rows - 1, own.step * (own.blocks + 1)
    pads = [
        (low, n - low - m, 0)
        for (low, _), n, m in zip(geometry.padding, size, x.shape[1:3], strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    x = x.reshape(n, size[0], own.blocks + 1, own.step * inputs)
    both = jnp.concatenate([x[:, :, :-1], x[:, :, 1:, : max(0, own.reach - own.step) * inputs]], -1)
    both = both[..., : own.reach * inputs]
    seen = jnp.concatenate([both[:, i : i + below : down] for i in range(rows)], -1)
    return seen.reshape(n * own.lines * own.blocks, rows * own.reach * inputs)


def _put_back(seen: Array, n: int, own: Cut, geometry: Geometry) -> Array:
    """The transpose of `_seen`."""
    rows, down = geometry.kernel[0], geometry.stride[0]
    inputs = seen.shape[1] // (rows * own.reach)
    seen = seen.reshape(n, own.lines, own.blocks, rows, own.reach * inputs)

    def block(part: Array, later: int) -> Array:
        """A block's pixels, of which the first are there, in its own place or in the next one's."""
        spare = own.step * inputs - part.shape[-1]
        return jnp.pad(part, ((0, 0), (0, 0), (later, 1 - later), (0, 0), (0, spare)))

    lines = block(seen[..., : own.step * inputs], 0) + block(seen[..., own.step * inputs :], 1)
    # Of `down` neighboring lines of pixels each is seen by other rows of the kernel.
    tall = own.lines + -(-rows // down) - 1

    def line(i: int) -> Array:
        return jnp.pad(
            lines[:, :, :, i], ((0, 0), (i // down, tall - own.lines - i // down), (0, 0), (0, 0))
        )

    none = jnp.zeros((n, tall, own.blocks + 1, own.step * inputs), seen.dtype)
    phases = [sum(map(line, range(phase, rows, down)), none) for phase in range(down)]
    x = jnp.stack(phases, 2).reshape(n, tall * down, (own.blocks + 1) * own.step, inputs)
    ends = zip(geometry.padding, geometry.image, x.shape[1:3], strict=True)
    pads = [(-low, low + size - there, 0) for (low, _), size, there in ends]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
