"""Convolution as one matrix product, with the pixels of several neighboring results in a row.

The matrix holds the kernel once for each of these results, a stride further on each time, with
zeros elsewhere. With few channels, a row for one result would be too short for the vector units:
the zeros add operations, but rows are longer and pixels are copied fewer times. With a stride there
are few results, so that copying costs little.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from fnn import trees
from fnn.nn.kernels.batch_tiles import map_tiles, sum_tiles, tile_count
from fnn.nn.kernels.reference import Geometry, Shape, output_shape, pad_or_crop, shifted_kernels

CACHE = 4e6  # bytes that the rows of a tile of the batch may take


class Blocks(NamedTuple):
    """The partition of the results into blocks, each of which is one row of the matrix product.

    Attributes:
        results: Results of a block.
        per_line: Blocks of a line of results.
        step: Pixels from one block to the next.
        reach: Pixels of a line that a block needs, two steps at most.
        lines: Lines of results.
        tiles: Tiles of the batch.
    """

    results: int
    per_line: int
    step: int
    reach: int
    lines: int
    tiles: int


def make_blocks(
    y: Shape,
    inputs: int,
    itemsize: int,
    geometry: Geometry,
    min_results: int,
) -> Blocks:
    """Partition the results.

    Args:
        y: Shape of the results (batch, height, width, out).
        inputs: Channels of x.
        itemsize: Bytes of a number.
        geometry: The convolution.
        min_results: Results of a block at least; more where the windows of more results overlap.
    """
    rows, columns = geometry.kernel
    stride = geometry.stride[1]
    n, height, width, outputs = y
    # The next `overlapping` windows have pixels in common with the first one.
    overlapping = -(-columns // stride) - 1
    results = max(min_results, overlapping)
    per_line = -(-width // results)
    reach = (results - 1) * stride + columns
    row_bytes = rows * reach * inputs * itemsize
    copied_bytes = n * height * per_line * row_bytes
    result_bytes = n * height * width * outputs * itemsize
    # The results of tiles have to be concatenated, which for large results costs more than the
    # cache saves.
    tiles = 1
    if copied_bytes > result_bytes:
        tiles = tile_count(n, copied_bytes, CACHE)
    return Blocks(
        results=results,
        per_line=per_line,
        step=results * stride,
        reach=reach,
        lines=height,
        tiles=tiles,
    )


def forward(
    x: Array,
    w: Array,
    geometry: Geometry,
    min_results: int,
) -> Array:
    """Convolve images, in one group at dilation 1."""
    shape = output_shape(x.shape, w.shape, geometry)
    _, height, width, outputs = shape
    inputs = x.shape[3]
    blocks = make_blocks(shape, inputs, x.dtype.itemsize, geometry, min_results)
    matrix = _matrix(w, blocks, geometry)
    padded_width = blocks.per_line * blocks.results

    def one_tile(x: Array) -> Array:
        y = _image_rows(x, blocks, geometry) @ matrix
        # (n lines per_line, results out) -> (n, lines, per_line results, out)
        return y.reshape(len(x), height, padded_width, outputs)

    y = map_tiles(one_tile, x, blocks.tiles)
    return y[:, :, :width]


def input_gradient(
    y: Array,
    w: Array,
    geometry: Geometry,
    min_results: int,
) -> Array:
    """Transpose `forward` in x: the gradients of pixels in two blocks are added."""
    inputs = w.shape[2]
    blocks = make_blocks(y.shape, inputs, y.dtype.itemsize, geometry, min_results)
    matrix = _matrix(w, blocks, geometry)

    def one_tile(y: Array) -> Array:
        wide = trees.wide(y)  # the sums over blocks are rounded once
        result_rows = _result_rows(y, blocks)
        image_rows = jnp.matmul(result_rows, matrix.T, preferred_element_type=wide)
        x = _add_image_rows(image_rows, len(y), blocks, geometry)
        return x.astype(y.dtype)

    padded = _pad_results(y, blocks)
    return map_tiles(one_tile, padded, blocks.tiles)


def kernel_gradient(
    x: Array,
    y: Array,
    geometry: Geometry,
    min_results: int,
) -> Array:
    """Transpose `forward` in w: the gradients of all copies of the kernel are added."""
    rows, columns = geometry.kernel
    stride = geometry.stride[1]
    inputs = x.shape[3]
    outputs = y.shape[3]
    blocks = make_blocks(y.shape, inputs, x.dtype.itemsize, geometry, min_results)

    def one_tile(x: Array, y: Array) -> Array:
        image_rows = _image_rows(x, blocks, geometry)
        transposed = image_rows.T  # (rows reach in, n lines per_line)
        result_rows = _result_rows(y, blocks)
        wide = trees.wide(x)  # the sum over tiles is rounded once
        return jnp.matmul(transposed, result_rows, preferred_element_type=wide)

    padded = _pad_results(y, blocks)
    matrix = sum_tiles(one_tile, blocks.tiles, x, padded)
    matrix = matrix.reshape(rows, blocks.reach, inputs, blocks.results, outputs)
    kernels = []
    for k in range(blocks.results):
        # The k-th copy of the kernel in the matrix, at its shift: (rows, columns, in, out).
        first = k * stride
        kernels.append(matrix[:, first : first + columns, :, k])
    total = sum(kernels[1:], kernels[0])
    return total.astype(x.dtype)


def _matrix(
    w: Array,
    blocks: Blocks,
    geometry: Geometry,
) -> Array:
    """Return the kernel as a matrix (rows reach in, results out)."""
    outputs = w.shape[3]
    shifted = shifted_kernels(w, blocks.results, geometry.stride[1])
    return shifted.reshape(-1, blocks.results * outputs)


def _pad_results(y: Array, blocks: Blocks) -> Array:
    """Pad the lines of results with zeros to a whole number of blocks."""
    width = y.shape[2]
    extra = blocks.per_line * blocks.results - width
    return jnp.pad(y, ((0, 0), (0, 0), (0, extra), (0, 0)))


def _result_rows(y: Array, blocks: Blocks) -> Array:
    """Reshape the results to one block a row, (n lines per_line, results out)."""
    n, _, _, outputs = y.shape
    rows = n * blocks.lines * blocks.per_line
    return y.reshape(rows, blocks.results * outputs)


def _image_rows(
    x: Array,
    blocks: Blocks,
    geometry: Geometry,
) -> Array:
    """Copy the pixels of each block to a row, (n lines per_line, rows reach in)."""
    n, image_height, image_width, inputs = x.shape
    rows = geometry.kernel[0]
    stride = geometry.stride[0]
    # Lines of x from the first to the last that one row of the kernel is applied to.
    line_reach = stride * (blocks.lines - 1) + 1
    # The pixels of all blocks, and those of a block more, which the last one overlaps.
    height = line_reach + rows - 1
    width = blocks.step * (blocks.per_line + 1)
    (top, _), (left, _) = geometry.padding
    bottom = height - top - image_height  # a negative one crops
    right = width - left - image_width
    x = pad_or_crop(x, (top, bottom), (left, right))
    # (n, height, per_line + 1, step in)
    x = x.reshape(n, height, blocks.per_line + 1, blocks.step * inputs)
    # Each block needs its own pixels and the first of the next: (n, height, per_line, reach in).
    overlap = max(0, blocks.reach - blocks.step) * inputs
    own_pixels = x[:, :, :-1]
    next_pixels = x[:, :, 1:, :overlap]
    pixels = jnp.concatenate([own_pixels, next_pixels], -1)
    # A block reaches less than a step where the kernel is shorter than its stride.
    pixels = pixels[..., : blocks.reach * inputs]
    # For each row of the kernel the lines of x that it is applied to.
    lines = []
    for i in range(rows):
        lines.append(pixels[:, i : i + line_reach : stride])
    image_rows = jnp.concatenate(lines, -1)  # (n, lines, per_line, rows reach in)
    num_rows = n * blocks.lines * blocks.per_line
    return image_rows.reshape(num_rows, rows * blocks.reach * inputs)


def _add_image_rows(
    image_rows: Array,
    n: int,
    blocks: Blocks,
    geometry: Geometry,
) -> Array:
    """Transpose `_image_rows`: add the rows to an image."""
    rows = geometry.kernel[0]
    stride = geometry.stride[0]
    inputs = image_rows.shape[1] // (rows * blocks.reach)
    step = blocks.step * inputs
    reach = blocks.reach * inputs
    # (n, lines, per_line, rows, reach in)
    image_rows = image_rows.reshape(n, blocks.lines, blocks.per_line, rows, reach)

    def place_block(part: Array, offset: int) -> Array:
        """Pad a block's first or further pixels to a step, at its own or the next index."""
        missing = step - part.shape[-1]
        block = (offset, 1 - offset)
        return jnp.pad(part, ((0, 0), (0, 0), block, (0, 0), (0, missing)))

    # The transpose of taking pixels from two blocks: (n, lines, per_line + 1, rows, step in).
    lines = place_block(image_rows[..., :step], 0)
    lines = lines + place_block(image_rows[..., step:], 1)
    # Lines of x are grouped by their remainder modulo the stride: each phase is the sum over other
    # rows of the kernel, of results on this number of lines.
    max_rows = -(-rows // stride)  # of one phase
    phase_lines = blocks.lines + max_rows - 1

    def place_line(i: int) -> Array:
        above = i // stride
        below = phase_lines - blocks.lines - above
        line = lines[:, :, :, i]  # (n, lines, per_line + 1, step in)
        return jnp.pad(line, ((0, 0), (above, below), (0, 0), (0, 0)))

    shape = (n, phase_lines, blocks.per_line + 1, step)
    zeros = jnp.zeros(shape, image_rows.dtype)
    phases = []
    for phase in range(stride):
        kernel_rows = range(phase, rows, stride)
        phases.append(sum(map(place_line, kernel_rows), zeros))
    # (n, phase_lines, stride, per_line + 1, step in) -> (n, phase_lines stride, pixels, in)
    x = jnp.stack(phases, 2)
    pixels = (blocks.per_line + 1) * blocks.step
    x = x.reshape(n, phase_lines * stride, pixels, inputs)
    # The inverse of the padding in `_image_rows`: most of it crops.
    (top, _), (left, _) = geometry.padding
    image_height, image_width = geometry.image
    bottom = top + image_height - x.shape[1]
    right = left + image_width - x.shape[2]
    return pad_or_crop(x, (-top, bottom), (-left, right))
