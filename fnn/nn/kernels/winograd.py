"""3 x 3 convolutions with half of the multiplications: Winograd's F(4, 3) along the height.

Four results of three taps need 12 products. As a product of two polynomials, given by its values at
six points, they need 6 [Winograd 1980; Lavin & Gray 2016, arXiv:1509.09308]:

    y = Aᵀ ((G w) ⊙ (Bᵀ x))    x: 6 neighbors in a column, w: 3 taps, y: 4 results

For each of the six points the sum over in-channels and the three columns is one matrix product. The
six are one batched product: separate ones are not faster and take 1.5x longer to compile. Along the
height, the arrays added are whole lines, which are contiguous in memory. In two dimensions fewer
products would be left, but they would be smaller, and float32 would lose more digits.
"""

from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.nn.kernels.batch_tiles import map_tiles, sum_tiles, tile_count
from fnn.nn.kernels.reference import Geometry, output_shape, pad_or_crop

TAPS = 3
RESULTS = 4
# With the point at infinity, six. They lose a third of the digits that 0, ±1 and ±2 lose: at 256
# channels float32 is within 1.5e-6 of the largest result instead of 4e-6, where the plain
# convolution is within 0.5e-6.
ROOT_HALF = 0.5**0.5
ROOT_2 = 2**0.5
POINTS = (0.0, ROOT_HALF, -ROOT_HALF, ROOT_2, -ROOT_2)


def transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute Bᵀ (6, 6), G (6, 3) and Aᵀ (4, 6) by Lagrange interpolation."""
    inputs = []
    kernel = []
    output = []
    for i, point in enumerate(POINTS):
        other_points = np.delete(POINTS, i)
        # Coefficients of the Lagrange polynomial, the lowest power first; degree 4 of 5.
        coefficients = np.poly(other_points)[::-1]
        inputs.append(np.append(coefficients, 0))
        scale = np.prod(point - other_points)
        # Values of the polynomials of taps and of results at the point.
        tap_powers = np.power(point, range(TAPS))
        kernel.append(tap_powers / scale)
        output.append(np.power(point, range(RESULTS)))
    # The value at infinity is the coefficient of the highest power.
    inputs.append(np.poly(POINTS)[::-1])
    kernel.append(np.eye(TAPS)[-1])
    output.append(np.eye(RESULTS)[-1])
    input_matrix = _clean_matrix(inputs)
    kernel_matrix = _clean_matrix(kernel)
    output_matrix = _clean_matrix(output).T
    return input_matrix, kernel_matrix, output_matrix


def _clean_matrix(rows: list[np.ndarray]) -> np.ndarray:
    """Stack the rows, with 0 for the entries that are rounding errors."""
    matrix = np.stack(rows)
    is_zero = np.abs(matrix) < 1e-12
    return np.where(is_zero, 0, matrix)


INPUT, KERNEL, OUTPUT = transforms()
NUM_POINTS = len(INPUT)  # also the number of neighbors that four results depend on

CACHE = 8e6  # bytes that the rows of a tile of the batch may take, for all six points


def forward(
    x: Array,
    w: Array,
    geometry: Geometry,
) -> Array:
    """Convolve images with a 3 x 3 kernel, in one group at stride and dilation 1."""
    _, height, width, outputs = output_shape(x.shape, w.shape, geometry)
    # (rows, columns, in, out) -> (points, columns, in, out)
    taps = jnp.einsum("bi,ijco->bjco", KERNEL.astype(w.dtype), w)
    taps = taps.reshape(NUM_POINTS, -1, outputs)  # (points, columns in, out)
    strips = -(-height // RESULTS)

    def one_tile(x: Array) -> Array:
        # The products of all points, (points, n strips width, out).
        n = len(x)
        products = _point_rows(x, height, width, geometry) @ taps
        products = products.reshape(NUM_POINTS, n, strips, width * outputs)
        # (n, strips, 4, width out) -> (n, 4 strips, width, out)
        y = _transform(OUTPUT, products, 2)
        return y.reshape(n, strips * RESULTS, width, outputs)

    tiles = _num_tiles(x, height, width)
    y = map_tiles(one_tile, x, tiles)
    return y[:, :height]  # without the further lines of the last strip


def input_gradient(
    y: Array,
    w: Array,
    geometry: Geometry,
) -> Array:
    """Convolve y with the flipped kernel, which is the transpose of `forward` in x."""
    results = y.shape[1:3]
    pads = []
    for n, m, (low, _) in zip(geometry.image, results, geometry.padding, strict=True):
        # A convolution of y, of size m, that has n results.
        total = n + TAPS - 1 - m
        flipped_low = TAPS - 1 - low
        pads.append((flipped_low, total - flipped_low))
    flipped = w[::-1, ::-1]
    flipped = flipped.swapaxes(2, 3)  # (height, width, out, in)
    transposed = geometry._replace(padding=tuple(pads), image=results)
    return forward(y, flipped, transposed)


def kernel_gradient(
    x: Array,
    y: Array,
    geometry: Geometry,
) -> Array:
    """Transpose `forward` in w."""
    height, width, outputs = y.shape[1:]
    inputs = x.shape[-1]
    extra_lines = -height % RESULTS
    y = jnp.pad(y, ((0, 0), (0, extra_lines), (0, 0), (0, 0)))

    def one_tile(x: Array, y: Array) -> Array:
        lines = [y[:, k::RESULTS] for k in range(RESULTS)]  # (n, strips, width, out) each
        values = _transform(OUTPUT.T, lines, 0)
        # (points, n, strips, width, out) -> (points, n strips width, out)
        values = values.reshape(NUM_POINTS, -1, outputs)
        rows = _point_rows(x, height, width, geometry)
        return jnp.einsum("bmk,bmo->bko", rows, values)

    tiles = _num_tiles(x, height, width)
    taps = sum_tiles(one_tile, tiles, x, y)
    # (points, columns in, out) -> (points, columns, in, out) -> (rows, columns, in, out)
    taps = taps.reshape(NUM_POINTS, TAPS, inputs, outputs)
    return jnp.einsum("bi,bjco->ijco", KERNEL.astype(x.dtype), taps)


def _point_rows(
    x: Array,
    height: int,
    width: int,
    geometry: Geometry,
) -> Array:
    """Return the transformed pixels of each result, (points, n strips width, columns in)."""
    strips = -(-height // RESULTS)
    (top, bottom), (left, right) = geometry.padding
    extra_lines = RESULTS * strips - height
    bottom += extra_lines
    x = pad_or_crop(x, (top, bottom), (left, right))
    # Line k of all strips, for each of the six lines that a strip of four results depends on.
    last = RESULTS * (strips - 1)
    lines = []
    for k in range(NUM_POINTS):
        lines.append(x[:, k : k + last + 1 : RESULTS])
    points = _transform(INPUT, lines, 0)  # (points, n, strips, padded width, in)
    columns = []
    for j in range(TAPS):
        columns.append(points[:, :, :, j : j + width])
    rows = jnp.concatenate(columns, -1)  # (points, n, strips, width, columns in)
    n, _, _, inputs = x.shape
    return rows.reshape(NUM_POINTS, n * strips * width, TAPS * inputs)


def _num_tiles(
    x: Array,
    height: int,
    width: int,
) -> int:
    n, _, _, inputs = x.shape
    strips = -(-height // RESULTS)
    rows = NUM_POINTS * n * strips * width
    row_bytes = TAPS * inputs * x.dtype.itemsize
    return tile_count(n, rows * row_bytes, CACHE)


def _transform(
    matrix: np.ndarray,
    arrays: Iterable[Array],
    axis: int,
) -> Array:
    """Multiply the matrix by the arrays, as a vector of arrays, and stack the results."""
    # Sums are written out, since entries of 0 and 1 then need no multiplication.
    rows = []
    for row in matrix:
        terms = zip(row, arrays, strict=True)
        rows.append([(factor, array) for factor, array in terms if factor])
    return jnp.stack([_weighted_sum(row) for row in rows], axis)


def _weighted_sum(terms: list[tuple[float, Array]]) -> Array:
    total = None
    for factor, array in terms:
        term = array
        if factor != 1:
            term = float(factor) * array
        total = term if total is None else total + term
    assert total is not None  # no row of the transforms is zero
    return total
